"""Which job each step of a run is: pure. A step without a job is the console's own deed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from leeward.domain.procedures import Kind, undo_order
from leeward.domain.runs import Run, StepState, may_owe, passing
from leeward.wire.jobs import Job, JobKind

_FAILOVER, _TEST = "failover", "test"
# An agent that reaches the vault looks every five seconds, or at its next commit, whether its epoch is over, and then
# stops the VM at once (leeward.agent.worker); a slow store and a busy host are allowed for.
GRACE_S = 8.0


def _purpose(run: Run) -> str:
    return _TEST if run.kind in (Kind.TEST, Kind.CLEANUP) else _FAILOVER


def _stop(run: Run) -> dict[str, Any]:
    return {name: value for name, value in run.options.items() if name in ("timeout_s", "force")}


def _stand_down(run: Run, where: str) -> dict[str, Any]:
    return {"name": run.vm_name, "reason": f"it runs at {where}"}


def _claim(run: Run, check: str, reason: str) -> dict[str, Any]:
    """To follow the epoch that was seen when the run began (or was retried, see `claim`), and no other."""
    found = {"claim": claim(run, check), "reason": reason, "run": run.id}
    return {**found, "passing": over} if (over := passing(run)) else found


def _ours(run: Run) -> list[str]:
    """Ids of this run and of those that it took over from: what they did, it takes back."""
    return [run.id, *run.options.get("after", [])]


def _unclaim(run: Run, check: str) -> dict[str, Any]:
    """The log is given back: to follow the epoch that was claimed, or the one that this run began. Also where it
    never came to that: a taking that is still on its way somewhere must find the door closed."""
    found: dict[str, Any] = {"claim": claim(run, check), "reason": "undo", "run": run.id, "back": _ours(run)}
    if over := passing(run) or run.options.get("inherited_passing"):
        found["passing"] = over
    if "unowe" not in {record.name for record in run.undo}:
        return found
    # The vault may be away still. Then the VM runs on at home only if nobody can have its log: either the recovery
    # site has promised not to take it, or neither is known.
    stuck = f"When the vault or {run.away} can be reached again: `leeward failover cancel {run.vm_name}` once more"
    owe = bool(run.undone("unowe").get("unowed")) and not over
    return {**found, "name": run.vm_name, "owe": owe, "stuck": stuck}


def _epoch(run: Run) -> dict[str, Any]:
    found = _claim(run, "check", "failover")
    if not run.result("check").get("replica"):
        return found
    sure = f"Make sure that it is off at {run.home}, then `leeward failover retry {run.vm_name} --without-vault`"
    stuck = {} if run.options.get("from_vault") or passing(run) else {"stuck": sure}
    told = {"name": run.vm_name, "point": run.point, "after": run.options.get("after", [])}
    # What may be passed over is known of the vault that was looked at; nobody knows how it will be when it is back.
    return {**found, **told, "owe": may_owe(run) and not passing(run), **stuck}


def _unowe(run: Run) -> dict[str, Any]:
    return {"claim": claim(run, "check")}


def claim(run: Run, check: str) -> int:
    """The epoch that this run may follow. check: the step that saw it; an option overrides it after a retry, another
    one stands in for it in a run that took over and is taken back at once."""
    options = run.options
    return int(
        options["claim"] if "claim" in options else run.result(check).get("claim", options.get("inherited_claim", 0))
    )


def _point(run: Run) -> str:
    """Once no other writer can add a point, the newest one is fixed for this run."""
    if run.point != "latest":
        return run.point
    return str(run.result("epoch").get("point", "latest"))


def _build(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = {"name": run.vm_name, "purpose": _purpose(run), "point": _point(run)}
    found["networks"] = run.options.get("networks", {})
    if run.options.get("after") or run.result("check").get("afresh"):
        found["afresh"] = True
    wishes = {name: True for name in ("from_vault", "without_vault") if run.options.get(name)}
    return {**found, **wishes, **({"owed": True} if run.result("epoch").get("owed") else {})}


def _copy(run: Run) -> dict[str, Any]:
    return {"purpose": _purpose(run)}


def _start_away(run: Run) -> dict[str, Any]:
    if run.kind is Kind.TEST:
        return _copy(run)
    taken = run.result("epoch")
    found = {**_copy(run), "epoch": taken["epoch"], "run": run.id}
    wishes = {"owed": True} if taken.get("owed") else {}
    return {**found, **wishes, **({"without_vault": True} if run.options.get("without_vault") else {})}


def _plug(run: Run) -> dict[str, Any]:
    """Where the home site was not reached, it may live: it is given the time in which it must have found its log
    closed. A log that could not be closed cannot be found closed: the operator has vouched. Nor is it known who had
    the log where a part of it could not be read: whoever that was is given the time as well."""
    if passing(run):
        return {**_copy(run), "grace_s": GRACE_S}
    if run.result("fence").get("reached", True) or run.result("epoch").get("owed"):
        return _copy(run)
    return {**_copy(run), "grace_s": GRACE_S}


def _prepare(run: Run) -> dict[str, Any]:
    """While the VM runs on, the newest will do; once its log is closed there is a last one."""
    point = run.result("epoch-home").get("point", "latest") if run.point == "latest" else run.point
    wanted = point if run.kind is Kind.UNPLANNED_FAILBACK else "latest"
    found = {"name": run.vm_name, "point": wanted, "run": run.id}
    return {**found, "afresh": True} if run.options.get("after") else found


def _catch_up(run: Run) -> dict[str, Any]:
    return {"point": run.result("last-cycle-away")["point"]}


def _held_at_home(run: Run) -> dict[str, Any]:
    """The point that the new disks were brought to, so that an earlier run's are not taken for this one's."""
    reached = run.result("catch-up") or run.result("prepare")
    return {"point": reached["point"]} if "point" in reached else {}


def _switch(run: Run) -> dict[str, Any]:
    return {"definition": run.result("check-home").get("definition", ""), **_held_at_home(run)}


def _start_home(run: Run) -> dict[str, Any]:
    """Where the recovery site was not reached, as in `_plug`: here it is the start that waits."""
    found = {"epoch": run.result("epoch-home")["epoch"], **_held_at_home(run)}
    if run.result("fence-away").get("reached", True) and not passing(run):
        return found
    return {**found, "grace_s": GRACE_S}


def _revert(run: Run) -> dict[str, Any]:
    """It names whose disks are to go: an order that comes late finds those of a later run."""
    return {**_stand_down(run, run.away), "runs": _ours(run)}


def _nothing(run: Run) -> dict[str, Any]:
    return {}


_Arguments = Callable[[Run], dict[str, Any]]

# Name of a step or undo action → job's kind, whether it is done at home, its arguments.
_JOBS: dict[str, tuple[JobKind, bool, _Arguments]] = {
    "stop": (JobKind.STOP, True, _stop),
    "restart": (JobKind.START, True, _nothing),
    "last-cycle": (JobKind.LAST_CYCLE, True, _nothing),
    "fence": (JobKind.STAND_DOWN, True, lambda run: _stand_down(run, run.away)),
    "stand-down": (JobKind.STAND_DOWN, True, lambda run: _stand_down(run, run.away)),
    "stand-up": (JobKind.STAND_UP, True, _nothing),
    "epoch": (JobKind.TAKE_EPOCH, False, _epoch),
    "unowe": (JobKind.UNOWE, False, _unowe),
    "epoch-back": (JobKind.TAKE_EPOCH, True, lambda run: _unclaim(run, "check")),
    "build": (JobKind.COPY_BUILD, False, _build),
    "start": (JobKind.COPY_START, False, _start_away),
    "plug": (JobKind.COPY_PLUG, False, _plug),
    "boot": (JobKind.COPY_WATCH, False, _copy),
    "picture": (JobKind.COPY_PICTURE, False, _copy),
    "discard": (JobKind.COPY_DISCARD, False, _copy),
    "settle": (JobKind.COPY_SETTLE, False, _copy),
    "prepare": (JobKind.HOME_PREPARE, True, _prepare),
    "stop-away": (JobKind.STOP, False, _stop),
    "restart-away": (JobKind.START, False, _nothing),
    "last-cycle-away": (JobKind.LAST_CYCLE, False, _nothing),
    "fence-away": (JobKind.STAND_DOWN, False, lambda run: _stand_down(run, run.home)),
    "stand-down-away": (JobKind.STAND_DOWN, False, lambda run: _stand_down(run, run.home)),
    "stand-up-away": (JobKind.STAND_UP, False, _nothing),
    # Whether the home site was reached by the failover is not known any more: it is given the time in any case.
    "plug-away": (JobKind.COPY_PLUG, False, lambda run: {**_copy(run), "grace_s": GRACE_S}),
    "boot-away": (JobKind.COPY_WATCH, False, _copy),
    "catch-up": (JobKind.HOME_CATCH_UP, True, _catch_up),
    "epoch-home": (JobKind.TAKE_EPOCH, True, lambda run: _claim(run, "check-home", "failback")),
    "epoch-away": (JobKind.TAKE_EPOCH, False, lambda run: _unclaim(run, "check-home")),
    "switch": (JobKind.HOME_SWITCH, True, _switch),
    "revert": (JobKind.HOME_REVERT, True, _revert),
    "start-home": (JobKind.HOME_START, True, _start_home),
    "boot-home": (JobKind.HOME_WATCH, True, _nothing),
    "settle-home": (JobKind.HOME_SETTLE, True, _nothing),
    "discard-away": (JobKind.COPY_DISCARD, False, _copy),
}


def job_of(run: Run, name: str, *, undo: bool) -> Job | None:
    """The job of a step (undo: of an undo step); None when the console does it itself.

    Its id is the same for every try of this attempt, and another one after a retry: what failed is done anew.
    """
    found = _JOBS.get(name)
    if found is None:
        return None
    kind, at_home, arguments = found
    return Job(
        id=_id(run.id, run.attempt, "undo" if undo else "do", name),
        kind=kind,
        vm_id=run.vm_id,
        host=run.home if at_home else run.away,
        arguments=arguments(run),
    )


def jobs_of(run: Run) -> list[tuple[str, str]]:
    """(host, job id) of every job that this run may have given so far, whether its outcome was let go of or not."""
    begun = [record for record in run.steps if record.state is not StepState.WAITING]
    # What was left to an agent that is away is done when it is back: nobody waits for it, and nobody lets go of it.
    names = [(record.name, "do") for record in begun if not record.result.get("left")]
    names += [(name, "undo") for name in undo_order(run.kind, len(run.steps))]
    found = [(_JOBS[name][1], name, way) for name, way in names if name in _JOBS]
    return [
        (run.home if at_home else run.away, _id(run.id, attempt, way, name))
        for attempt in range(1, run.attempt + 1)
        for at_home, name, way in found
    ]


def _id(run_id: str, attempt: int, way: str, name: str) -> str:
    return f"{run_id}/{attempt}/{way}/{name}"
