"""One VM: what it is doing, its recovery points on a timeline, its curves, disks, policy and history."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response

from leeward.console.access import GuardedRoute, actor_of, viewer
from leeward.console.once import once
from leeward.console.troubles import late
from leeward.console.views import RunView, StatusView, TestView
from leeward.console.web.advanced_form import members_of
from leeward.console.web.charts import Spark, Timeline, spark, timeline
from leeward.console.web.live import Piece, stream
from leeward.console.web.parts import Parts
from leeward.console.web.phrases import Quote
from leeward.console.web.possible import LABELS, Act, chances
from leeward.console.web.recovery_pages import Task, address
from leeward.console.web.rows import Level, size_of, state_of
from leeward.console.web.watch import Moment
from leeward.domain.access import Role
from leeward.domain.errors import LeewardError, NotFound
from leeward.domain.lifecycle import Event, Phase, Refusal, after
from leeward.domain.points import RecoveryPoint
from leeward.domain.procedures import Kind

_LISTED = 20
_SPANS = {"hour": 3600.0, "day": 86_400.0, "week": 7 * 86_400.0}


@dataclass(frozen=True, slots=True)
class Points:
    """What the timeline shows. shown: the newest of the window, newest first; found: how many it has in all."""

    picture: Timeline
    churn: Timeline
    shown: tuple[RecoveryPoint, ...]
    found: int
    total: int
    oldest: float | None
    trouble: Quote | None


@dataclass(frozen=True, slots=True)
class Head:
    """The part of the page that is live."""

    status: StatusView
    words: Any
    level: Level
    power: str
    late: bool
    size: int
    tasks: tuple[Task, ...]
    run: RunView | None
    curve: Spark | None
    test: TestView | None
    tested: float | None


def head_of(moment: Moment, vm_id: str, role: Role | None) -> Head:
    """Raises NotFound."""
    status = moment.status(vm_id)
    if status is None:
        raise NotFound("there is no such VM", subject=vm_id[:64])
    words, level = state_of(status)
    vm, run = moment.vms.get(vm_id), moment.run_of(vm_id)
    known = chances(moment, status, role)
    tasks = tuple(Task(known[act], address(act, [vm_id]) if known[act].open else "") for act in _acts(status))
    values = moment.curves.of(vm_id)
    curve = spark(values, status.rpo_target_s, width=720, height=72, most=360) if len(values) > 1 else None
    test = next((test for test in moment.tests if test.vm_id == vm_id), None)
    power, size = (vm.power.value if vm else ""), size_of(moment, status)
    return Head(status, words, level, power, late(status), size, tasks, run, curve, test, moment.tested.get(vm_id))


def _acts(status: StatusView) -> list[Act]:
    """The tasks that make sense for where it stands; the list shows the others with their reasons."""
    if status.policy is None:
        return [Act.ENABLE]
    paused = status.state == "paused" and status.phase in (Phase.HOME, Phase.SETTLED)
    acts = [Act.CLEANUP if status.test_failover else Act.TEST, Act.FAILOVER]
    if status.phase != Phase.HOME:
        acts += [Act.COMMIT, Act.FAILBACK]
    return [*acts, Act.POLICY, Act.RESUME if paused else Act.PAUSE, Act.DISABLE]


@once
def _groups(moment: Moment) -> Mapping[str, Sequence[StatusView]]:
    return members_of(moment.statuses)


def fellows_of(moment: Moment, one: StatusView) -> tuple[StatusView, ...]:
    """The other VMs of its consistency group, by name."""
    group = one.policy.group if one.policy else ""
    return tuple(other for other in _groups(moment).get(group, ()) if other.vm_id != one.vm_id)


def onward(status: StatusView) -> tuple[str, str] | None:
    """(label, address) of what brings the VM up from an older point, None where nothing does."""
    phase, vm = Phase(status.phase), status.vm_id
    if not isinstance(after(phase, Event.UNPLANNED), Refusal):
        return LABELS[Act.FAILOVER], f"{address(Act.FAILOVER, [vm])}&type={Kind.UNPLANNED}"
    if not isinstance(after(phase, Event.UNPLANNED_FAILBACK), Refusal):
        return LABELS[Act.FAILBACK], f"{address(Act.FAILBACK, [vm])}&type={Kind.UNPLANNED_FAILBACK}"
    return None


def window(
    points: list[RecoveryPoint], span: str, begins: float | None, ends: float | None, now: float
) -> tuple[float, float]:
    """What part of time to show, UTC seconds."""
    if begins is not None and ends is not None and 0 <= begins < ends <= now + 86_400:
        return begins, ends
    if span in _SPANS:
        return now - _SPANS[span], now
    oldest = points[0].time_ns / 1e9 if points else now - 3600.0
    return min(oldest, now - 60.0), now


def points_of(parts: Parts, vm_id: str, span: str, begins: float | None, ends: float | None) -> Points:
    points: list[RecoveryPoint] = []
    trouble = None
    try:
        points = parts.points.of(vm_id)
    except LeewardError as error:
        trouble = Quote(f"the vault cannot be read: {error.message}")
    start, end = window(points, span, begins, ends, time.time())
    inside = [point for point in points if start <= point.time_ns / 1e9 <= end]
    return Points(
        picture=timeline(points, start, end, by_bytes=False),
        churn=timeline(points, start, end, by_bytes=True),
        shown=tuple(reversed(inside[-_LISTED:])),
        found=len(inside),
        total=len(points),
        oldest=points[0].time_ns / 1e9 if points else None,
        trouble=trouble,
    )


def history_of(name: str, events: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
    """What was done lately with the VM of this name, newest first, back to when it got the name: before that another
    one may have had it."""
    found: list[Mapping[str, str]] = []
    for event in events:
        if event["subject"] == name:
            found.append(event)
            if event["what"] == "renamed":
                break
    return found[:10]


def router(parts: Parts) -> APIRouter:
    pages = APIRouter(route_class=GuardedRoute)
    paint, watch = parts.painter.page, parts.watch

    @pages.get("/vms/{vm_id}", dependencies=viewer)
    def vm_page(
        request: Request, vm_id: str, span: str = "", begins: float | None = None, ends: float | None = None
    ) -> Response:
        moment = watch.look()
        head = head_of(moment, vm_id, actor_of(request).role)
        points = points_of(parts, vm_id, span, begins, ends)
        name = head.status.vm
        events = history_of(name, parts.service.events(300))
        return paint(
            request,
            "vm.html",
            head=head,
            vm=moment.vms.get(vm_id),
            points=points,
            onward=onward(head.status),
            span=span if begins is None else "zoom",
            runs=parts.service.runs(vm_id, 10) if head.status.policy or head.run else [],
            events=events,
            drill=moment.drill(vm_id),
            plan_drills=moment.plan_drills(vm_id),
            fellows=fellows_of(moment, head.status),
            tests=parts.service.evidence.of(vm_id),
        )

    @pages.get("/vms/{vm_id}/live", dependencies=viewer)
    def vm_live(request: Request, vm_id: str) -> Response:
        pieces = parts.painter.pieces(parts.painter.reader(request), "vm_pieces.html")
        role = actor_of(request).role

        def view(moment: Moment) -> Sequence[Piece]:
            head = head_of(moment, vm_id, role)
            age, drill, plan_drills = head.status.rpo_actual_s, moment.drill(vm_id), moment.plan_drills(vm_id)
            fellows = fellows_of(moment, head.status)
            names = [(one.vm_id, one.vm) for one in fellows]
            return [
                Piece("vm-head", (head.words, head.level, head.power, head.status.reason, head.status.host),
                      lambda: str(pieces.head(head))),
                Piece("vm-tasks", head.tasks, lambda: str(pieces.tasks(head))),
                Piece("vm-facts", (age and int(age), head.status.progress, head.status.last_point, head.tested),
                      lambda: str(pieces.facts(head))),
                Piece("vm-run", _steps(head), lambda: str(pieces.run(head))),
                Piece("vm-tests", (head.tested, _steps(head)[0], head.status.test_failover),
                      lambda: str(pieces.tests(vm_id, parts.service.evidence.of(vm_id)))),
                Piece("vm-policy", (head.status.policy, _replica(head.status), drill, plan_drills, names,
                                    head.status.marked_at),
                      lambda: str(pieces.policy(head, drill, plan_drills, fellows))),
                Piece("vm-curve", head.curve, lambda: str(pieces.curve(head))),
            ]  # fmt: skip

        return stream(request, watch, view)

    return pages


def _replica(status: StatusView) -> object:
    """As it is shown; what it holds changes with every point."""
    replica = status.replica
    return replica and (replica.host, replica.state, replica.reason, int(replica.fraction * 100), replica.bytes >> 24)


def _steps(head: Head) -> tuple[object, ...]:
    run = head.run
    shown = [(step.name, step.state) for step in (*run.steps, *run.undo)] if run else []
    copied = (head.test.copy_name, head.test.hydrated, head.test.failed, str(head.test.evidence)) if head.test else ()
    return run and (run.id, run.state), shown, copied
