"""What a scenario expects, looked up where it can be known: hypervisors, guests, console, vault."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

from leeward.lab.places import SITES
from leeward.lab.scenario.stage import Failed, Stage
from leeward.lab.scenario.steps import Expect
from leeward.lab.scenario.watcher import Watched, Watcher

_FRESH_S = 2.0


def expect(step: Expect, stage: Stage, watcher: Watcher) -> str:
    """Raises Failed. What it looked at, in a few words."""
    vm = watcher.vms[step.vm]
    told = []
    if step.primary is not None:
        stage.until(f"primary at {step.primary}", step.within, lambda: _primary_is(vm, str(step.primary)))
        told.append(f"runs at {step.primary}" if step.primary != "nowhere" else "runs nowhere")
    if step.records is not None:
        told.append(_records(stage, step.vm, vm))
    if step.tracking is not None and "resynchronizing" in vm.states:
        raise Failed("change tracking was lost: every block was compared", subject=step.vm)
    if step.state or step.phase or step.reason:
        stage.until("as expected", step.within, lambda: _status_is(step, stage.row(step.vm)))
    if step.run or step.failure or step.step:
        stage.until("as expected", step.within, lambda: _run_is(step, stage.run(step.vm)))
    if step.step:
        told.append(f"{step.step}: {_detail(step.step, stage.run(step.vm))}")
    return "; ".join(told)


def _primary_is(vm: Watched, wanted: str) -> str:
    """By hypervisors and guests: plugged in and answering there, and nowhere else."""
    now = time.time()
    for plan in SITES:
        live = vm.live.get(plan.name)
        answered, _ = vm.status.get(plan.name, (0.0, {}))
        if plan.name == wanted:
            if live is False:
                return f"it does not run at {plan.name}"
            if now - answered > _FRESH_S:
                return f"it does not answer at {plan.name}"
        elif live or now - answered < _FRESH_S:
            return f"it runs at {plan.name}"
    return ""


def _status_is(step: Expect, row: dict[str, Any]) -> str:
    for field in ("state", "phase"):
        wanted = getattr(step, field)
        if wanted and row[field] != wanted:
            return f"{field} is {row[field]!r}, not {wanted!r}: {row['reason']}"
    if step.reason and step.reason not in row["reason"]:
        return f"the reason is {row['reason']!r}"
    return ""


def _run_is(step: Expect, run: dict[str, Any]) -> str:
    if step.run and run["state"] != step.run:
        return f"the run is {run['state']}, not {step.run}: {run['failure']}"
    if step.failure and step.failure not in run["failure"]:
        return f"the run's failure is {run['failure']!r}"
    if step.step and (step.says or "") not in (detail := _detail(step.step, run)):
        return f"step {step.step} says {detail!r}"
    return ""


def _detail(name: str, run: dict[str, Any]) -> str:
    for record in [*run["steps"], *run["undo"]]:
        if record["name"] == name:
            return str(record["detail"])
    raise Failed(f"the run has no step {name}", subject=run["vm"])


def _records(stage: Stage, name: str, vm: Watched) -> str:
    """What the guest found on its disks when it booted, against what it had told its clients before.

    A move that was planned loses nothing. Another one keeps what was durable at the instant of its point.
    """
    run = stage.run(name)
    now = time.time()
    answers = [status for answered, status in vm.status.values() if now - answered < _FRESH_S]
    if len(answers) != 1:
        raise Failed(f"the guest answers at {len(answers)} sites", subject=name)
    status = answers[0]
    found = [int(disk["boot_seq"]) for disk in status["disks"]]
    if status["error"] or not all(disk["boot_intact"] for disk in status["disks"]):
        raise Failed(f"the guest found damaged records: {status}", subject=name)
    # Record n + 1 begins only when n is on both disks.
    if len(found) == 2 and not 0 <= found[0] - found[1] <= 1:
        raise Failed(f"its disks are of two instants: records {found}", subject=name)
    least = _least(stage, name, vm, run)
    if min(found) < least:
        raise Failed(f"records are missing: {least} had been told to clients, {found} are there", subject=name)
    return f"records {least} told, {min(found)} found"


def _least(stage: Stage, name: str, vm: Watched, run: dict[str, Any]) -> int:
    if run["kind"] == "unplanned":
        points = {point["id"]: point["time"] for point in stage.parts.vault_command("points", name)}
        return vm.records.by(datetime.fromisoformat(points[run["point"]]).timestamp())
    return vm.records.by(_stopped(run))


def _stopped(run: dict[str, Any]) -> float:
    """When the VM was off: until then its clients were told of records that must all be there."""
    for record in run["steps"]:
        if record["name"] in ("stop", "stop-away") and record["seconds"] is not None:
            return float(record["started"] + record["seconds"])
    raise Failed("the run has shut nothing down", subject=run["vm"])
