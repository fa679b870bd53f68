"""Putting agents onto picked hosts: a one-time token for each, what to type there, and waiting until it has come."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fastapi import APIRouter, Request, Response

from leeward.console.access import GuardedRoute, about, admin
from leeward.console.picks import Pick, Site, Standing
from leeward.console.pushes import Pushes
from leeward.console.web import push_pages
from leeward.console.web.commands import is_local, on_host, onto_host
from leeward.console.web.forms import Form, Posted, required
from leeward.console.web.integrate_pages import STORAGE, add_here, name_is_taken, wizard_page
from leeward.console.web.integrating import HOME
from leeward.console.web.live import Piece, stream
from leeward.console.web.painter import Trouble, go, trouble_of, wrong
from leeward.console.web.parts import Parts
from leeward.console.web.phrases import N_, Phrase, phrase
from leeward.console.web.watch import Moment
from leeward.domain.errors import LeewardError, NotFound
from leeward.network.ssh import HostKeys
from leeward.ports.recovery_provider import Wanted


def router(parts: Parts) -> APIRouter:
    pages = APIRouter(route_class=GuardedRoute)
    pushes = Pushes()
    _add_list(pages, parts)
    pages.include_router(push_pages.router(parts, pushes, _add_host(pages, parts, pushes)))
    return pages


def _add_list(pages: APIRouter, parts: Parts) -> None:
    def hosts_page(
        request: Request, status: int = 200, trouble: Trouble | None = None, values: Form | None = None
    ) -> Response:
        return wizard_page(
            parts,
            request,
            "integrate_hosts.html",
            "hosts",
            status,
            trouble=trouble,
            here_why=parts.machine.why_not(),
            here_hosts=parts.machine.hosts(),
            refusal=parts.integration.refusal(),
            place=parts.integration.progress().place,
            values=values or Form([("name", "office")]),
        )

    @pages.get("/services/recovery/hosts", dependencies=admin)
    def integrate_hosts(request: Request) -> Response:
        return hosts_page(request)

    @pages.get("/services/recovery/hosts/live", dependencies=admin)
    def integrate_hosts_live(request: Request) -> Response:
        pieces = parts.painter.pieces(parts.painter.reader(request), "integrate_pieces.html")

        def view(_: Moment) -> Sequence[Piece]:
            found = parts.integration.standings()
            return [Piece("picks", [_key(one) for one in found], lambda: str(pieces.picks(found)))]

        return stream(request, parts.watch, view)

    @pages.post("/services/recovery/hosts/here", dependencies=admin)
    def protect_this_machine(request: Request, form: Posted) -> Response:
        about(request, form["name"][:63])
        trouble, status = add_here(parts, request, Wanted(form["name"].strip(), "source"), form)
        if trouble is not None:
            return hosts_page(request, status, trouble, form)
        return go(request, f"{HOME}/hosts")


def _key(standing: Standing) -> object:
    """While a token waits its time is told, to the minute, and to the second in the end."""
    left = standing.left_s
    shown = None if left is None else int(left) if left < 120 else int(left // 60) * 60
    return standing.pick, standing.state, standing.vms, shown


def _add_host(pages: APIRouter, parts: Parts, pushes: Pushes) -> Callable[..., Response]:
    """Returns what paints the page."""
    integration = parts.integration

    def host_page(
        request: Request,
        address: str,
        status: int = 200,
        trouble: Trouble | None = None,
        values: Form | None = None,
        token: str = "",
        keys: HostKeys | None = None,
        of: str = "token",
    ) -> Response:
        """token: in clear, on the one page that shows it. keys: that the host has shown, to be compared. of: which of
        the page's forms the trouble is of."""
        standings = integration.standings()
        one = _of(standings, address)
        pick = one.pick
        url, handed = parts.door.url, parts.places.handed() is not None
        wants = "recovery" if _needs_recovery(parts, one, standings) else pick.site
        return wizard_page(
            parts,
            request,
            "integrate_host.html",
            "hosts",
            status,
            standings=standings,
            trouble=trouble,
            one=one,
            refusal=integration.refusal(),
            values=values or Form(_first(pick, wants if not pick.token else pick.site)),
            token=token,
            bring=onto_host(pick.address),
            enrol=on_host(pick.name, pick.site, "" if handed else url, token, STORAGE) if token else "",
            vault_is_local=is_local(url),
            vault_url=url,
            handed=handed,
            keys=keys,
            wants=wants,
            of=of,
            push=pushes.of(address),
        )

    @pages.get("/services/recovery/host/{address}", dependencies=admin)
    def integrate_host(request: Request, address: str) -> Response:
        return host_page(request, address)

    @pages.get("/services/recovery/host/{address}/live", dependencies=admin)
    def integrate_host_live(request: Request, address: str) -> Response:
        pieces = parts.painter.pieces(parts.painter.reader(request), "integrate_pieces.html")

        def view(_: Moment) -> Sequence[Piece]:
            one = _of(integration.standings(), address)
            push = pushes.of(address)
            found = [Piece("standing", _key(one), lambda: str(pieces.standing(one)))]
            if push is not None:
                found.append(Piece("push", push, lambda: str(pieces.push(push, address))))
            return found

        return stream(request, parts.watch, view)

    @pages.post("/services/recovery/host/{address}/token", dependencies=admin)
    def make_agent_token(request: Request, address: str, form: Posted) -> Response:
        about(request, address, f"{form['name'][:63]} {form['site'][:16]}")
        _of(integration.standings(), address)
        bad: dict[str, Phrase] = required(form, "name")
        if form["site"] not in ("source", "recovery"):
            bad["site"] = phrase(N_("Choose a site."))
        if name_is_taken(parts, address, form["name"].strip()):
            bad.setdefault("name", phrase(N_("A host of this name exists.")))
        if bad:
            return host_page(request, address, 422, wrong(bad), form)
        try:
            site: Site = "recovery" if form["site"] == "recovery" else "source"
            made = integration.make_token(address, form["name"].strip(), site)
        except LeewardError as error:
            trouble, status = trouble_of(request, error, name="name")
            return host_page(request, address, status, trouble, form)
        return host_page(request, address, token=made.token)

    @pages.post("/services/recovery/host/{address}/drop", dependencies=admin)
    def drop_host(request: Request, address: str) -> Response:
        integration.drop(address)
        return go(request, f"{HOME}/hosts")

    return host_page


def _first(pick: Pick, site: str) -> list[tuple[str, str]]:
    return [("name", pick.name), ("site", site), ("user", "root"), ("port", "22")]


def _of(standings: Sequence[Standing], address: str) -> Standing:
    """Raises NotFound."""
    found = next((one for one in standings if one.pick.address == address), None)
    if found is None:
        raise NotFound("this host was not picked", subject=address)
    return found


def _needs_recovery(parts: Parts, one: Standing, standings: Sequence[Standing]) -> bool:
    """The first host of those that are picked is suggested as recovery host where there is none."""
    if parts.integration.progress().place != "agent":
        return False
    if any(other.pick.site == "recovery" and other.pick.token for other in standings):
        return False
    if any(host.site == "recovery" for host in parts.watch.look().hosts):
        return False
    return standings[0].pick.address == one.pick.address
