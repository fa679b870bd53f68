"""What is decided with a yes: tests of several VMs, clean-ups, commits, failbacks, pausing, disabling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response

from leeward.console.access import GuardedRoute, about, actor_of, operator
from leeward.console.views import FailbackRequest, StatusView
from leeward.console.web.forms import Form, Posted, timeout_field
from leeward.console.web.move_pages import Choice, Chosen, cannot_be_read, picked_of, points_of, statuses_of
from leeward.console.web.painter import Trouble, go, trouble_of, wrong
from leeward.console.web.parts import Parts
from leeward.console.web.phrases import N_, Phrase, phrase
from leeward.console.web.points import newest_app
from leeward.console.web.possible import LABELS, PHASES, Act, chances
from leeward.console.web.watch import Closeup
from leeward.domain.errors import BadInput, LeewardError, NotFound
from leeward.domain.lifecycle import Event, Phase, Refusal, after
from leeward.domain.points import RecoveryPoint
from leeward.domain.procedures import Kind, steps
from leeward.state.database import acting

# What is asked for with no more than a yes, and what it means.
_ABOUT = {
    Act.TEST: N_("A copy of the newest recovery point is started, apart from production. Nothing else is touched."),
    Act.CLEANUP: N_("The test copy is removed with its disks and its network."),
    Act.COMMIT: N_("What was kept for the way back is let go of. Do this when the VM is as it should be."),
    Act.FAILBACK: N_("Where the VM came from, it is to run again."),
    Act.PAUSE: N_("No new recovery points are made; those that exist stay usable."),
    Act.RESUME: N_("Recovery points are made again, beginning with what has changed meanwhile."),
    Act.DISABLE: N_("Replication ends. Recovery points stay in the vault."),
}
_WAYS_HOME = {
    Kind.FAILBACK: N_("The VM is brought home with what has changed; it is down while the last changes follow."),
    Kind.UNPLANNED_FAILBACK: N_("The recovery site is gone: it comes up at home with what the vault has."),
}


def router(parts: Parts) -> APIRouter:
    pages = APIRouter(route_class=GuardedRoute)
    paint, watch = parts.painter.page, parts.watch

    def confirm_page(
        request: Request,
        act: Act,
        vm_ids: Sequence[str],
        status: int = 200,
        trouble: Trouble | None = None,
        values: Form | None = None,
    ) -> Response:
        # What is decided on is shown as it is now, not as it was a second ago: a commit may just have ended.
        moment, values = watch.closeup(vm_ids), values or Form(list(request.query_params.multi_items()))
        found = statuses_of(moment, vm_ids)
        role = actor_of(request).role
        whys = {one.vm_id: chances(moment, one, role)[act].why for one in found}
        ways = _ways_home(moment, found[0]) if act is Act.FAILBACK else []
        way = _chosen_way(values["type"], ways, found[0], moment)
        points: list[RecoveryPoint] = []
        no_points = None
        if way and way.kind is Kind.UNPLANNED_FAILBACK:
            points, no_points = points_of(parts, moment, found[0].vm_id)
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
            steps=steps(way.kind) if way else _steps_of(act, found),
            choices=ways,
            way=way,
            hosts=[host for host in moment.hosts if host.site == "source"] if act is Act.FAILBACK else [],
            newest=points[-1] if points else None,
            app=newest_app(points),
            picked=picked_of(points, values),
            point=values["point"] or "latest",
            no_points=cannot_be_read(no_points),
            values=values,
        )

    @pages.get("/do/{act}", dependencies=operator)
    def confirm(request: Request, act: str, vm: Chosen) -> Response:
        return confirm_page(request, _deed(act), vm)

    @pages.post("/do/{act}", dependencies=operator)
    def carry_out(request: Request, act: str, form: Posted) -> Response:
        deed = _deed(act)
        found = statuses_of(watch.closeup(form.all("vm")), form.all("vm"))
        if deed is Act.FAILBACK and len(found) > 1:
            raise BadInput("choose one VM", subject="vm")
        about(request, ", ".join(one.vm for one in found)[:200], deed.value)
        bad: dict[str, Phrase] = {}
        timeout = timeout_field(form, bad)
        if (
            deed is Act.FAILBACK
            and form["type"] == Kind.UNPLANNED_FAILBACK
            and form["confirm"].strip() != found[0].vm
        ):
            bad["confirm"] = phrase(N_("Type the VM's name, {vm}, to confirm."), vm=found[0].vm)
        if bad:
            return confirm_page(request, deed, form.all("vm"), 422, wrong(bad), form)
        target = "/recovery?" + urlencode([("vm", one.vm_id) for one in found])
        for done, one in enumerate(found):
            try:
                target = _carry_out(parts, deed, one, form, timeout) or target
            except LeewardError as error:
                trouble, status = trouble_of(request, error)
                trouble = Trouble(phrase(N_("{vm}: {why}"), vm=one.vm, why=trouble.message), trouble.hint)
                return confirm_page(request, deed, [other.vm_id for other in found[done:]], status, trouble, form)
        watch.fresh()
        return go(request, target if len(found) == 1 or deed in (Act.PAUSE, Act.RESUME, Act.DISABLE) else "/runs")

    return pages


def _deed(act: str) -> Act:
    if act not in {deed.value for deed in _ABOUT}:
        raise NotFound("there is nothing of this kind to be done", subject=act[:64])
    return Act(act)


def _steps_of(act: Act, found: list[StatusView]) -> tuple[Any, ...]:
    kinds = {Act.TEST: Kind.TEST, Act.CLEANUP: Kind.CLEANUP, Act.COMMIT: Kind.COMMIT, Act.FAILBACK: Kind.FAILBACK}
    if act is Act.COMMIT and found and found[0].phase == Phase.BACK:
        return steps(Kind.FINISH)
    return steps(kinds[act]) if act in kinds else ()


def _ways_home(moment: Closeup, one: StatusView) -> list[Choice]:
    found = []
    for kind, text in _WAYS_HOME.items():
        following = after(Phase(one.phase), Event(kind.value))
        why = phrase(PHASES[Phase(one.phase)]) if isinstance(following, Refusal) else None
        if kind is Kind.FAILBACK and why is None and not moment.reachable(one.away):
            why = phrase(N_("Its recovery host {host} cannot be reached."), host=one.away)
        found.append(Choice(kind, text, why))
    return found


def _chosen_way(wanted: str, ways: list[Choice], one: StatusView, moment: Closeup) -> Choice | None:
    """Unplanned by itself only where the recovery site is gone: a planned one that has to wait is no reason to lose
    what the VM has written."""
    if not ways:
        return None
    named = next((way for way in ways if way.kind.value == wanted), None)
    planned, unplanned = ways
    return named or (unplanned if unplanned.why is None and not moment.reachable(one.away) else planned)


def _carry_out(parts: Parts, act: Act, one: StatusView, form: Form, timeout: float | None) -> str:
    """Where to go on, "" for nowhere in particular."""
    service, who = parts.service, acting.get()
    if act is Act.DISABLE:
        service.unprotect(one.vm_id, force=bool(form.ticked("force")))
        return ""
    if act in (Act.PAUSE, Act.RESUME):
        service.set_paused(one.vm_id, act is Act.PAUSE)
        return ""
    if act is Act.TEST:
        return f"/runs/{service.begin_test(one.vm_id, 'latest', who).id}"
    if act is Act.CLEANUP:
        return f"/runs/{service.begin_cleanup(one.vm_id, who).id}"
    if act is Act.COMMIT:
        return f"/runs/{service.commit(one.vm_id, who).id}"
    unplanned = form["type"] == Kind.UNPLANNED_FAILBACK
    request = FailbackRequest(
        unplanned=unplanned,
        point=(form["point"] if unplanned else "") or "latest",
        to=form["to"] or None,
        force=form.ticked("force"),
        timeout_s=timeout,
    )
    return f"/runs/{service.failback(one.vm_id, request, who).id}"
