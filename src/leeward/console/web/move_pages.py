"""Where something is decided about VMs: enabling replication, and failovers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from leeward.console.access import GuardedRoute, about, actor_of, operator
from leeward.console.views import FailoverRequest, StatusView
from leeward.console.web.advanced_form import (
    ADVANCED,
    KEEP,
    advanced,
    advanced_filled,
    advanced_typed,
    changes_of,
    read_advanced,
)
from leeward.console.web.forms import Form, Posted, timeout_field
from leeward.console.web.offers import newest_of, offers
from leeward.console.web.painter import Trouble, go, trouble_of, wrong
from leeward.console.web.parts import Parts
from leeward.console.web.phrases import N_, Phrase, Quote, phrase
from leeward.console.web.points import newest_app
from leeward.console.web.policy_form import DRILL, SPANS, drill_filled, filled_several, read_drill, read_policy
from leeward.console.web.possible import Act, chances, no_point, without
from leeward.console.web.request_price import has_price, price_of
from leeward.console.web.vault_door import VaultState
from leeward.console.web.watch import Closeup, Moment
from leeward.domain.consistency import Choice as Instant
from leeward.domain.errors import BadInput, LeewardError, NotFound, StoreUnavailable, Unavailable
from leeward.domain.lifecycle import Event, Phase, Refusal, after
from leeward.domain.points import RecoveryPoint
from leeward.domain.procedures import Kind, steps
from leeward.state.database import acting

Chosen = Annotated[list[str], Query(alias="vm", min_length=1, max_length=500)]
One = Annotated[str, Query(alias="vm")]

_KINDS = {
    Kind.TEST: N_("A copy is started apart from production; the VM runs on untouched. To see whether it would work."),
    Kind.PLANNED: N_("The VM is shut down here, its last changes follow, then it starts there. Nothing is lost."),
    Kind.UNPLANNED: N_("The home site is gone: it starts there from a recovery point. What came after it is lost."),
}


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the types of a move. why: it cannot be begun now, None when it can."""

    kind: Kind
    about: str
    why: Phrase | None


def router(parts: Parts) -> APIRouter:
    pages = APIRouter(route_class=GuardedRoute)
    _add_enabling(pages, parts)
    _add_failover(pages, parts)
    return pages


def statuses_of(moment: Closeup, vm_ids: Sequence[str]) -> list[StatusView]:
    """Raises NotFound, BadInput when there is none."""
    if not any(vm_ids):
        raise BadInput("no VM was chosen", subject="vm")
    found = []
    for vm_id in dict.fromkeys(vm_ids):
        status = moment.status(vm_id)
        if status is None:
            raise NotFound("there is no such VM", subject=vm_id[:64])
        found.append(status)
    return found


# --- enabling ----------------------------------------------------------------------------------------------


def _add_enabling(pages: APIRouter, parts: Parts) -> None:
    watch, service = parts.watch, parts.service

    def address() -> str:
        """Of the vault; "" while what says where it is cannot be read."""
        with suppress(BadInput):
            return parts.places.file.url
        return ""

    def policy_page(
        request: Request,
        moment: Moment,
        found: list[StatusView],
        several: bool,
        values: dict[str, str],
        status: int = 200,
        trouble: Trouble | None = None,
    ) -> Response:
        more = advanced(found, moment.statuses, moment.hosts, several)
        open_ = more.used or any(values[name] not in ("", KEEP) for name in ADVANCED)
        shown = {"vms": found, "several": several, "keep": KEEP, "values": values, "more": more, "unfolded": open_}
        shown |= {"priced": has_price(address()), "price": price_of(address(), values["rpo_s"], found)}
        return parts.painter.page(request, "enable.html", status, trouble=trouble, **shown)

    @pages.get("/enable", dependencies=operator)
    def enable_page(request: Request, vm: Chosen) -> Response:
        moment = watch.fresh()
        found = statuses_of(moment, vm)
        several = len(found) > 1
        drill = None if several else service.drills.of(found[0].vm_id)
        policies = [one.policy for one in found if one.policy]
        values = filled_several(policies) | drill_filled(drill) | advanced_filled(found)
        return policy_page(request, moment, found, several, values)

    @pages.get("/enable/price", dependencies=operator)
    def enable_price(request: Request, vm: Chosen, rpo_s: str = "") -> Response:
        """The line below the field, while somebody types."""
        price = price_of(address(), rpo_s, statuses_of(watch.look(), vm))
        return parts.painter.page(request, "enable_price.html", price=price)

    @pages.post("/enable", dependencies=operator)
    def protect(request: Request, form: Posted) -> Response:
        moment = watch.fresh()
        found = statuses_of(moment, form.all("vm"))
        about(request, ", ".join(one.vm for one in found)[:200])
        # A form that was made for several VMs stays one, also when it failed half-way and one VM is left.
        several = len(found) > 1 or form.given("several")
        typed = form.values(*SPANS, "bandwidth", *DRILL) | advanced_typed(form)
        wanted, bad = read_policy(form)
        drill = read_drill(form, bad, several)
        more = read_advanced(form, found, moment.statuses, moment.hosts, several, bad)
        if wanted is None or bad:
            return policy_page(request, moment, found, several, typed, 422, wrong(bad))
        for done, one in enumerate(found):
            try:
                service.protect(one.vm_id, wanted.model_copy(update=changes_of(one, more)))
                if drill is not None:
                    service.drills.wish(one.vm_id, one.vm, drill.request, acting.get())
            except LeewardError as error:
                beside = {str(more[name]): name for name in ("warm", "group") if more.get(name)}
                trouble, status = trouble_of(request, error, **beside)
                trouble = replace(trouble, message=phrase(N_("{vm}: {why}"), vm=one.vm, why=trouble.message))
                moment = watch.fresh()  # some of them may have been changed
                left = statuses_of(moment, [other.vm_id for other in found[done:]])
                return policy_page(request, moment, left, several, typed, status, trouble)
        watch.fresh()
        return go(request, "/recovery?show=protected" if several else f"/vms/{found[0].vm_id}")


# --- failing over -------------------------------------------------------------------------------------------


def _add_failover(pages: APIRouter, parts: Parts) -> None:
    paint, watch = parts.painter.page, parts.watch

    def failover_page(
        request: Request, vm_id: str, values: Form, status: int = 200, trouble: Trouble | None = None
    ) -> Response:
        # What is decided on is shown as it is now, not as it was a second ago: a commit may just have ended.
        moment = watch.closeup([vm_id])
        (one,) = statuses_of(moment, [vm_id])
        choices = _choices(request, moment, one)
        kind = _chosen_kind(values["type"], choices)
        points, trouble_of_vault = points_of(parts, moment, vm_id)
        away = isinstance(trouble_of_vault, Unavailable)
        point = values["point"] or "latest"
        newest = kind is Kind.UNPLANNED and point == "latest"
        instant = _instant(parts, one) if newest and not trouble_of_vault else None
        offered = offers(kind, one, points, away=away, newest=newest, instant=instant)
        if trouble and offered.group and offered.group.late and newest_of(values["instant"]) is None:
            trouble = replace(trouble, fields={**trouble.fields, "instant": phrase(N_("Choose one of the two."))})
        return paint(
            request,
            "failover.html",
            status,
            trouble=trouble,
            vm=one,
            choices=choices,
            kind=kind,
            steps=steps(kind),
            newest=points[-1] if points else None,
            app=newest_app(points),
            picked=picked_of(points, values),
            point=point,
            no_points=cannot_be_read(trouble_of_vault),
            offers=offered,
            hosts=[host for host in moment.hosts if host.site == "recovery"],
            values=values,
        )

    @pages.get("/failover", dependencies=operator)
    def failover(request: Request, vm: One) -> Response:
        return failover_page(request, vm, Form(list(request.query_params.multi_items())))

    @pages.post("/failover", dependencies=operator)
    def begin_failover(request: Request, form: Posted) -> Response:
        (one,) = statuses_of(watch.closeup([form["vm"]]), [form["vm"]])
        kind = form["type"] if form["type"] in {kind.value for kind in _KINDS} else ""
        about(request, one.vm, f"{kind}, recovery point {form['point'] or 'latest'}")
        bad: dict[str, Phrase] = {} if kind else {"type": phrase(N_("Choose one of the three."))}
        timeout = timeout_field(form, bad)
        if kind in ("planned", "unplanned") and form["confirm"].strip() != one.vm:
            bad["confirm"] = phrase(N_("Type the VM's name, {vm}, to confirm."), vm=one.vm)
        if bad:
            return failover_page(request, one.vm_id, form, 422, wrong(bad))
        point = form["point"] or "latest"
        try:
            run_id = _begin(parts, one, kind, point, form, timeout)
        except LeewardError as error:
            trouble, status = trouble_of(request, error)
            return failover_page(request, one.vm_id, form, status, trouble)
        watch.fresh()
        return go(request, f"/runs/{run_id}")


def _begin(parts: Parts, one: StatusView, kind: str, point: str, form: Form, timeout: float | None) -> str:
    """The run's id."""
    if kind == "test":
        return parts.service.begin_test(one.vm_id, point, acting.get()).id
    unplanned = kind == "unplanned"
    request = FailoverRequest(
        point=point if unplanned else "latest",
        to=form["to"] or None,
        force=form.ticked("force"),
        timeout_s=timeout,
        from_vault=form.ticked("from_vault"),
        without_vault=form.ticked("without_vault") if unplanned else None,
        newest=newest_of(form["instant"]) if unplanned else None,
    )
    return parts.service.failover(one.vm_id, Event(kind), request, acting.get()).id


def _choices(request: Request, moment: Closeup, one: StatusView) -> list[Choice]:
    known = chances(moment, one, actor_of(request).role)
    found = []
    for kind, text in _KINDS.items():
        why = known[Act.TEST if kind is Kind.TEST else Act.FAILOVER].why
        if kind is not Kind.TEST and why is None:
            following = after(Phase(one.phase), Event(kind.value))
            why = phrase(N_("Not while one is under way.")) if isinstance(following, Refusal) else None
        if why is None:
            why = without(kind, moment.vault)
        if kind is Kind.PLANNED and why is None:
            why = no_point(one)
        if kind is Kind.PLANNED and why is None and not moment.reachable(one.host):
            why = phrase(N_("Its home host {host} cannot be reached."), host=one.host)
        found.append(Choice(kind, text, why))
    return found


def _chosen_kind(wanted: str, choices: list[Choice]) -> Kind:
    named = next((choice.kind for choice in choices if choice.kind.value == wanted), None)
    return named or next((choice.kind for choice in choices[1:] if choice.why is None), Kind.TEST)


def points_of(parts: Parts, moment: Closeup, vm_id: str) -> tuple[list[RecoveryPoint], LeewardError | None]:
    """What the vault holds of a VM, or why it cannot be asked. One that is known to be away is not waited for."""
    if moment.vault is VaultState.AWAY:
        return [], StoreUnavailable("")
    try:
        return parts.points.of(vm_id), None
    except LeewardError as error:
        return [], error


def picked_of(points: list[RecoveryPoint], values: Form) -> RecoveryPoint | None:
    """The point with which the reader came from the timeline, whatever he has chosen since."""
    wanted = (values["point"], values["picked"])
    return next((point for point in points if point.id in wanted), None)


def cannot_be_read(error: LeewardError | None) -> Phrase | Quote | None:
    if error is None:
        return None
    if not error.message:
        return phrase(N_("The vault cannot be reached."))
    return Quote(f"the vault cannot be read: {error.message}")


def _instant(parts: Parts, one: StatusView) -> Instant | None:
    if not one.policy or not one.policy.group:
        return None
    try:
        return parts.service.instant(one.vm_id)
    except LeewardError:
        return None
