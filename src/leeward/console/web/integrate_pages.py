"""Integrating recovery: the way as a whole, where VMs are to be recovered, and what it has come to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request, Response

from leeward.console.access import GuardedRoute, about, admin, viewer
from leeward.console.picks import Standing
from leeward.console.recovery_providers import NotBuilt, WithAgent
from leeward.console.web.forms import Form, Posted, required
from leeward.console.web.integrating import HOME, following, place_choices, steps
from leeward.console.web.live import Piece, stream
from leeward.console.web.painter import Trouble, go, trouble_of, wrong
from leeward.console.web.parts import Parts
from leeward.console.web.phrases import N_, phrase
from leeward.console.web.services import missing_for_recovery
from leeward.console.web.watch import Moment
from leeward.domain.errors import LeewardError
from leeward.ports.recovery_provider import Survey, Wanted

STORAGE = "/var/lib/leeward/images"


def router(parts: Parts) -> APIRouter:
    pages = APIRouter(route_class=GuardedRoute)
    _add_overview(pages, parts)
    _add_place(pages, parts)
    return pages


def wizard_page(
    parts: Parts,
    request: Request,
    template: str,
    stage: str,
    status: int = 200,
    *,
    moment: Moment | None = None,
    standings: Sequence[Standing] | None = None,
    **values: Any,
) -> Response:
    """A page of the way, with all steps above it. stage: key of the step that it belongs to. moment, standings: where
    the page has asked for them already."""
    moment = moment or parts.watch.look()
    standings = parts.integration.standings() if standings is None else standings
    found = steps(parts.integration.progress(), moment, standings)
    return parts.painter.page(
        request,
        template,
        status,
        stage=stage,
        way=found,
        following=following(found),
        moment=moment,
        standings=standings,
        **values,
    )


def _add_overview(pages: APIRouter, parts: Parts) -> None:
    @pages.get("/services/recovery", dependencies=viewer)
    def integrate_recovery(request: Request) -> Response:
        moment = parts.watch.look()
        missing = missing_for_recovery(moment)
        return wizard_page(parts, request, "integrate.html", "", moment=moment, missing=missing)

    @pages.get("/services/recovery/done", dependencies=admin)
    def integrate_done(request: Request) -> Response:
        moment = parts.watch.look()
        missing = missing_for_recovery(moment)
        return wizard_page(parts, request, "integrate_done.html", "done", moment=moment, missing=missing)

    @pages.get("/services/recovery/done/live", dependencies=admin)
    def integrate_done_live(request: Request) -> Response:
        pieces = parts.painter.pieces(parts.painter.reader(request), "integrate_pieces.html")

        def view(moment: Moment) -> Sequence[Piece]:
            missing = missing_for_recovery(moment)
            key = (moment.hosts, tuple(missing))
            return [Piece("found", key, lambda: str(pieces.found(moment, missing)))]

        return stream(request, parts.watch, view)


def _add_place(pages: APIRouter, parts: Parts) -> None:
    providers = (parts.machine, WithAgent(parts.agents), NotBuilt("azure"))

    def place_page(
        request: Request, status: int = 200, trouble: Trouble | None = None, values: Form | None = None
    ) -> Response:
        choices = place_choices(providers)
        here, survey = choices[0], None
        if not here.why:
            try:
                survey = parts.machine.survey()
            except LeewardError:
                survey = None
        values = values or _first_values(parts, survey)
        return wizard_page(
            parts,
            request,
            "integrate_place.html",
            "place",
            status,
            trouble=trouble,
            choices=choices,
            survey=survey,
            values=values,
        )

    @pages.get("/services/recovery/place", dependencies=admin)
    def integrate_place(request: Request) -> Response:
        return place_page(request)

    @pages.post("/services/recovery/place", dependencies=admin)
    def choose_place(request: Request, form: Posted) -> Response:
        about(request, form["name"][:63] if form["place"] == "here" else "", form["place"][:16])
        choice = next((one for one in place_choices(providers) if one.key == form["place"]), None)
        if choice is None or choice.why:
            bad = {"place": phrase(N_("Choose a place."))}
            return place_page(request, 422, wrong(bad), form)
        if choice.key == "here":
            wanted = Wanted(form["name"].strip(), "recovery", form["storage"].strip(), form["network"])
            trouble, status = add_here(parts, request, wanted, form, "storage")
            if trouble is not None:
                return place_page(request, status, trouble, form)
        parts.integration.choose_place("here" if choice.key == "here" else "agent")
        return go(request, f"{HOME}/scan")


def _first_values(parts: Parts, survey: Survey | None) -> Form:
    """What is suggested: what was chosen before, else this machine where it can be one."""
    chosen = parts.integration.progress().place or ("here" if survey is not None else "agent")
    if chosen == "here" and survey is None:
        chosen = "agent"
    return Form([("place", chosen), ("name", "recovery"), ("storage", STORAGE), ("network", "")])


def name_is_taken(parts: Parts, address: str, name: str) -> bool:
    """By a host, except by that of the agent which is at this address already."""
    own = parts.integration.agent_of(address)
    return any(host.name == name for host in parts.watch.look().hosts) and not (own and own.name == name)


def add_here(parts: Parts, request: Request, wanted: Wanted, form: Form, *needed: str) -> tuple[Trouble | None, int]:
    """Make this machine a host. (None, 200) when it is one now; else what is wrong with the form."""
    bad = required(form, "name", *needed)
    if any(host.name == wanted.name for host in parts.watch.look().hosts):
        bad.setdefault("name", phrase(N_("A host of this name exists.")))
    if bad:
        return wrong(bad), 422
    try:
        parts.machine.integrate(wanted)
    except LeewardError as error:
        about(request, wanted.name)
        return trouble_of(request, error, **{field: field for field in ("name", "site", "storage", "network")})
    parts.database.record("host added", wanted.name, wanted.site)
    parts.watch.fresh()
    return None, 200
