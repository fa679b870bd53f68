"""Where something is decided about VMs: enabling replication, failovers, and what needs no more than a yes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response

from leeward.console.access import GuardedRoute, about, actor_of, operator
from leeward.console.views import FailbackRequest, FailoverRequest, StatusView
from leeward.console.web.forms import Form, Posted, span_field
from leeward.console.web.painter import Trouble, go, trouble_of, wrong
from leeward.console.web.parts import Parts
from leeward.console.web.phrases import N_, Phrase, Quote, phrase
from leeward.console.web.points import newest_app
from leeward.console.web.policy_form import filled, read_policy
from leeward.console.web.possible import LABELS, Act, of_vm
from leeward.console.web.watch import Moment
from leeward.domain.errors import BadInput, LeewardError, NotFound
from leeward.domain.lifecycle import Event, Phase, Refusal, after
from leeward.domain.points import RecoveryPoint
from leeward.domain.procedures import Kind, steps
from leeward.state.database import acting
from leeward.wire.messages import PolicyMessage

Chosen = Annotated[list[str], Query(alias="vm", min_length=1, max_length=500)]
One = Annotated[str, Query(alias="vm")]

# What is asked for with no more than a yes, and what it means.
_ABOUT = {
    Act.TEST: N_("A copy of the newest recovery point is started, apart from production. Nothing else is touched."),
    Act.CLEANUP: N_("The test copy is removed with its disks and its network."),
    Act.COMMIT: N_("What was kept for the way back is let go of. Do this when the VM is as it should be."),
    Act.FAILBACK: N_("The VM is brought home with what has changed; it is down while the last changes follow."),
    Act.PAUSE: N_("No new recovery points are made; those that exist stay usable."),
    Act.RESUME: N_("Recovery points are made again, beginning with what has changed meanwhile."),
    Act.DISABLE: N_("Replication ends. Recovery points stay in the vault."),
}
_KINDS = {
    Kind.TEST: N_("A copy is started apart from production; the VM runs on untouched. To see whether it would work."),
    Kind.PLANNED: N_("The VM is shut down here, its last changes follow, then it starts there. Nothing is lost."),
    Kind.UNPLANNED: N_("The home site is gone: it starts there from a recovery point. What came after it is lost."),
}


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the three types. why: it cannot be begun now, None when it can."""

    kind: Kind
    about: str
    why: Phrase | None


def router(parts: Parts) -> APIRouter:
    pages = APIRouter(route_class=GuardedRoute)
    _add_enabling(pages, parts)
    _add_failover(pages, parts)
    _add_deeds(pages, parts)
    return pages


def _statuses(moment: Moment, vm_ids: list[str] | tuple[str, ...]) -> list[StatusView]:
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
    paint, watch, service = parts.painter.page, parts.watch, parts.service

    @pages.get("/enable", dependencies=operator)
    def enable_page(request: Request, vm: Chosen) -> Response:
        found = _statuses(watch.look(), vm)
        policy = found[0].policy if len(found) == 1 and found[0].policy else PolicyMessage()
        return paint(request, "enable.html", vms=found, values=filled(policy))

    @pages.post("/enable", dependencies=operator)
    def protect(request: Request, form: Posted) -> Response:
        found = _statuses(watch.fresh(), form.all("vm"))
        about(request, ", ".join(one.vm for one in found)[:200])
        names = ("rpo_s", "retain_s", "hourly_s", "daily_s", "app_interval_s", "bandwidth")
        wanted, bad = read_policy(form)
        if wanted is None:
            return paint(request, "enable.html", 422, trouble=wrong(bad), vms=found, values=form.values(*names))
        for done, one in enumerate(found):
            try:
                service.protect(one.vm_id, wanted)
            except LeewardError as error:
                trouble, status = trouble_of(request, error)
                left = found[done:]
                trouble = Trouble(phrase(N_("{vm}: {why}"), vm=one.vm, why=trouble.message), trouble.hint)
                return paint(request, "enable.html", status, trouble=trouble, vms=left, values=form.values(*names))
        watch.fresh()
        return go(request, f"/vms/{found[0].vm_id}" if len(found) == 1 else "/recovery?show=protected")


# --- failing over -------------------------------------------------------------------------------------------


def _add_failover(pages: APIRouter, parts: Parts) -> None:
    paint, watch = parts.painter.page, parts.watch

    def failover_page(
        request: Request, vm_id: str, values: Form, status: int = 200, trouble: Trouble | None = None
    ) -> Response:
        moment = watch.look()
        (one,) = _statuses(moment, [vm_id])
        choices = _choices(request, moment, one)
        kind = _chosen_kind(values["type"], choices)
        points, why_not = _points(parts, vm_id)
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
            picked=next((point for point in points if point.id == values["point"]), None),
            point=values["point"] or "latest",
            no_points=why_not,
            hosts=[host for host in moment.hosts if host.site == "recovery"],
            values=values,
        )

    @pages.get("/failover", dependencies=operator)
    def failover(request: Request, vm: One) -> Response:
        return failover_page(request, vm, Form(list(request.query_params.multi_items())))

    @pages.post("/failover", dependencies=operator)
    def begin_failover(request: Request, form: Posted) -> Response:
        (one,) = _statuses(watch.fresh(), [form["vm"]])
        kind = form["type"] if form["type"] in {kind.value for kind in _KINDS} else ""
        about(request, one.vm, f"{kind} point {form['point'] or 'latest'}")
        bad: dict[str, Phrase] = {} if kind else {"type": phrase(N_("Choose one of the three."))}
        timeout = span_field(form, "timeout", bad)
        if timeout is not None and not 1 <= timeout <= 3600:
            bad["timeout"] = phrase(N_("From 1 second to 1 hour."))
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
        parts.service.start_test(one.vm_id, point, acting.get())
        return parts.service.last_run(one.vm_id).id
    request = FailoverRequest(
        point="latest" if kind == "planned" else point,
        to=form["to"] or None,
        force=True if form.given("force") else None,
        timeout_s=timeout,
    )
    return parts.service.failover(one.vm_id, Event(kind), request, acting.get()).id


def _choices(request: Request, moment: Moment, one: StatusView) -> list[Choice]:
    chances = of_vm(one, moment.vms.get(one.vm_id), moment.run_of(one.vm_id), actor_of(request).role)
    found = []
    for kind, text in _KINDS.items():
        why = chances[Act.TEST if kind is Kind.TEST else Act.FAILOVER].why
        if kind is not Kind.TEST and why is None:
            following = after(Phase(one.phase), Event(kind.value))
            why = phrase(N_("Not while one is under way.")) if isinstance(following, Refusal) else None
        if kind is Kind.PLANNED and why is None:
            home = next((host for host in moment.hosts if host.name == one.host), None)
            if home is None or not home.reachable:
                why = phrase(N_("Its home host {host} cannot be reached."), host=one.host)
        found.append(Choice(kind, text, why))
    return found


def _chosen_kind(wanted: str, choices: list[Choice]) -> Kind:
    named = next((choice.kind for choice in choices if choice.kind.value == wanted), None)
    return named or next((choice.kind for choice in choices[1:] if choice.why is None), Kind.TEST)


def _points(parts: Parts, vm_id: str) -> tuple[list[RecoveryPoint], Quote | None]:
    try:
        return parts.points.of(vm_id), None
    except LeewardError as error:
        return [], Quote(f"the vault cannot be read: {error.message}")


# --- what needs a yes ----------------------------------------------------------------------------------------


def _add_deeds(pages: APIRouter, parts: Parts) -> None:
    paint, watch = parts.painter.page, parts.watch

    def confirm_page(
        request: Request,
        act: Act,
        found: list[StatusView],
        status: int = 200,
        trouble: Trouble | None = None,
        values: Form | None = None,
    ) -> Response:
        moment = watch.look()
        role = actor_of(request).role
        chances = {one.vm_id: of_vm(one, moment.vms.get(one.vm_id), moment.run_of(one.vm_id), role) for one in found}
        whys = {vm_id: chance[act].why for vm_id, chance in chances.items()}
        return paint(
            request,
            "confirm.html",
            status,
            trouble=trouble,
            act=act.value,
            label=LABELS[act],
            text=_ABOUT[act],
            vms=found,
            whys=whys,
            steps=_steps_of(act, found),
            hosts=[host for host in moment.hosts if host.site == "source"] if act is Act.FAILBACK else [],
            values=values or Form([]),
        )

    @pages.get("/do/{act}", dependencies=operator)
    def confirm(request: Request, act: str, vm: Chosen) -> Response:
        return confirm_page(request, _deed(act), _statuses(watch.look(), vm))

    @pages.post("/do/{act}", dependencies=operator)
    def carry_out(request: Request, act: str, form: Posted) -> Response:
        deed = _deed(act)
        found = _statuses(watch.fresh(), form.all("vm"))
        about(request, ", ".join(one.vm for one in found)[:200], deed.value)
        bad: dict[str, Phrase] = {}
        timeout = span_field(form, "timeout", bad)
        if bad:
            return confirm_page(request, deed, found, 422, wrong(bad), form)
        target = "/recovery?" + urlencode([("vm", one.vm_id) for one in found])
        for done, one in enumerate(found):
            try:
                target = _carry_out(parts, deed, one, form, timeout) or target
            except LeewardError as error:
                trouble, status = trouble_of(request, error)
                trouble = Trouble(phrase(N_("{vm}: {why}"), vm=one.vm, why=trouble.message), trouble.hint)
                return confirm_page(request, deed, found[done:], status, trouble, form)
        watch.fresh()
        return go(request, target if len(found) == 1 or deed in (Act.PAUSE, Act.RESUME, Act.DISABLE) else "/runs")


def _deed(act: str) -> Act:
    if act not in {deed.value for deed in _ABOUT}:
        raise NotFound("there is nothing of this kind to be done", subject=act[:64])
    return Act(act)


def _steps_of(act: Act, found: list[StatusView]) -> tuple[Any, ...]:
    kinds = {Act.TEST: Kind.TEST, Act.CLEANUP: Kind.CLEANUP, Act.COMMIT: Kind.COMMIT, Act.FAILBACK: Kind.FAILBACK}
    if act is Act.COMMIT and found and found[0].phase == Phase.BACK:
        return steps(Kind.FINISH)
    return steps(kinds[act]) if act in kinds else ()


def _carry_out(parts: Parts, act: Act, one: StatusView, form: Form, timeout: float | None) -> str:
    """Where to go on, "" for nowhere in particular."""
    service, who = parts.service, acting.get()
    if act is Act.DISABLE:
        service.unprotect(one.vm_id)
        return ""
    if act in (Act.PAUSE, Act.RESUME):
        service.set_paused(one.vm_id, act is Act.PAUSE)
        return ""
    if act is Act.TEST:
        service.start_test(one.vm_id, "latest", who)
        return f"/runs/{service.last_run(one.vm_id).id}"
    if act is Act.CLEANUP:
        return f"/runs/{service.begin_cleanup(one.vm_id, who).id}"
    if act is Act.COMMIT:
        return f"/runs/{service.commit(one.vm_id, who).id}"
    request = FailbackRequest(to=form["to"] or None, force=True if form.given("force") else None, timeout_s=timeout)
    return f"/runs/{service.failback(one.vm_id, request, who).id}"
