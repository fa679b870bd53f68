"""What each step of a scenario does. Each answers with what there is to tell of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

from leeward.domain.durations import seconds
from leeward.lab import site as sites
from leeward.lab import volumes
from leeward.lab.scenario import steps
from leeward.lab.scenario.expecting import expect
from leeward.lab.scenario.stage import Failed, Stage
from leeward.lab.scenario.watcher import Watcher

_STATES = ("running", "done", "failed")


@dataclass(frozen=True, slots=True)
class Play:
    """One scenario under way. say: tells of something that happens within a step."""

    stage: Stage
    watcher: Watcher
    say: Callable[[str], None]


@singledispatch
def act(step: steps.Step, play: Play) -> str:
    raise NotImplementedError(step.verb)


@act.register
def _(step: steps.Protect, play: Play) -> str:
    play.stage.asker.put(f"/vms/{step.vm}/protection", {"rpo_s": seconds(step.rpo)})
    return ""


@act.register
def _(step: steps.Wait, play: Play) -> str:
    stage, begin = play.stage, time.time()
    last: dict[str, Any] = {}

    def look() -> str:
        row = stage.row(step.vm)
        last.update(row)
        wanted = {"state": step.state, "phase": step.phase}
        for field, value in wanted.items():
            if value is not None and row[field] != value:
                return f"{field} is {row[field]!r} {row['reason']!r}"
        if step.reason is not None and step.reason not in row["reason"]:
            return f"the reason is {row['reason']!r}"
        if step.spooled is not None and (row["spool_bytes"] > 0) != step.spooled:
            return f"{row['spool_bytes']} bytes are in the spool"
        if step.fresh and not (row["rpo_actual_s"] is not None and time.time() - row["rpo_actual_s"] > begin):
            return f"the newest point is {row['rpo_actual_s']} s old; {row['state']} {row['reason']}"
        return _run_is(_looked_after(step, play), step) if step.run or step.failure else ""

    stage.until(f"waiting for {step.vm}", step.within, look)
    return str(last["reason"])


def _run_is(run: dict[str, Any], step: steps.Wait) -> str:
    if step.run and run["state"] != step.run:
        return f"the run is {run['state']}: {_where(run)} {run['failure']}"
    if step.failure and step.failure not in run["failure"]:
        return f"the run's failure is {run['failure']!r}"
    return ""


@act.register
def _(step: steps.Reach, play: Play) -> str:
    def look() -> str:
        run = _looked_after(step, play)
        for record in [*run["steps"], *run["undo"]]:
            if record["name"] == step.step:
                return "" if record["state"] in _STATES else f"the run is in {_where(run)}, {run['state']}"
        raise Failed(f"the run has no step {step.step}", subject=step.vm)

    play.stage.until(f"reaching {step.step}", step.within, look)
    return _where(play.stage.run(step.vm))


def _looked_after(step: steps.Wait | steps.Reach, play: Play) -> dict[str, Any]:
    """The newest run; when it has stalled, and an operator looks after it, it is retried."""
    run = play.stage.run(step.vm)
    if step.retrying and run["state"] == "stalled":
        play.say(f"retry: {run['failure']}")
        play.stage.asker.post(f"/vms/{step.vm}/retry", {})
    return run


def _where(run: dict[str, Any]) -> str:
    """The step that is under way, or the last one that was."""
    begun = [record for record in [*run["steps"], *run["undo"]] if record["state"] != "waiting"]
    return f"{begun[-1]['name']} ({begun[-1]['state']})" if begun else "no step"


@act.register
def _(step: steps.Pass, play: Play) -> str:
    time.sleep(step.time)
    return ""


@act.register
def _(step: steps.Kill, play: Play) -> str:
    parts, told = play.stage.parts, ""
    for what in step.what:
        place, _, kind = what.partition(" ")
        if kind == "libvirtd":
            parts.kill_libvirtd(place)
        elif kind == "exports":
            told = f"{parts.kill_exports()} of them"
        else:
            parts.kill(place)
    return told


@act.register
def _(step: steps.Start, play: Play) -> str:
    for what in step.what:
        place, _, kind = what.partition(" ")
        if kind == "libvirtd":
            play.stage.parts.start_libvirtd(place)
        elif kind == "exports":
            raise Failed("nobody starts export processes but their agent")
        else:
            play.stage.parts.start(place)
    return ""


@act.register
def _(step: steps.Burn, play: Play) -> str:
    return f"{play.stage.parts.burn(step.site)} processes"


@act.register
def _(step: steps.Cut, play: Play) -> str:
    ways = [(step.source, step.target)] + ([(step.target, step.source)] if step.both else [])
    play.stage.cut(*ways)
    return ""


@act.register
def _(step: steps.Heal, play: Play) -> str:
    play.stage.heal()
    return ""


@act.register
def _(step: steps.Fill, play: Play) -> str:
    volumes.fill(play.stage.disk(step.disk), step.leave)
    return ""


@act.register
def _(step: steps.Free, play: Play) -> str:
    volumes.free(play.stage.disk(step.disk))
    return ""


@act.register
def _(step: steps.Write, play: Play) -> str:
    return play.watcher.write(step.vm, step.megabytes)


@act.register
def _(step: steps.Failover, play: Play) -> str:
    if step.kind == "test":
        return _test(step, play)
    play.stage.asker.post(f"/vms/{step.vm}/failover/{step.kind}", {})
    return _ended(step.vm, step.ends, step.within, play) if step.wait else ""


def _test(step: steps.Failover, play: Play) -> str:
    asker = play.stage.asker
    asker.post(f"/vms/{step.vm}/test-failover", {})
    view: dict[str, Any] = {}

    def look() -> str:
        view.update(asker.get(f"/vms/{step.vm}/test-failover"))
        return "" if view["done"] else "it is not done"

    if not step.wait:
        return ""
    play.stage.until("the test failover", step.within, look)
    if bool(view["failed"]) != (step.ends != "done"):
        raise Failed(f"the test failover ended with {view['failed'] or 'success'!r}", subject=step.vm)
    return str(view["failed"] or view["evidence"])


@act.register
def _(step: steps.Failback, play: Play) -> str:
    play.stage.asker.post(f"/vms/{step.vm}/failback", {})
    return _ended(step.vm, step.ends, step.within, play) if step.wait else ""


@act.register
def _(step: steps.Commit, play: Play) -> str:
    play.stage.asker.post(f"/vms/{step.vm}/commit")
    return _ended(step.vm, "done", step.within, play) if step.wait else ""


@act.register
def _(step: steps.Retry, play: Play) -> str:
    play.stage.asker.post(f"/vms/{step.vm}/retry", {})
    return _ended(step.vm, step.ends, step.within, play) if step.wait else ""


@act.register
def _(step: steps.Cancel, play: Play) -> str:
    play.stage.asker.post(f"/vms/{step.vm}/cancel")
    return _ended(step.vm, step.ends, step.within, play) if step.wait else ""


@act.register
def _(step: steps.Cleanup, play: Play) -> str:
    play.stage.asker.delete(f"/vms/{step.vm}/test-failover")
    return ""


def _ended(vm: str, ends: str, within_s: float, play: Play) -> str:
    """Until the newest run has ended, its steps told as they come."""
    run: dict[str, Any] = {}
    told = ""

    def look() -> str:
        nonlocal told
        run.update(play.stage.run(vm))
        if (where := _where(run)) != told:
            told = where
            play.say(where)
        if run["state"] in ("done", "stalled", "undone"):
            return ""
        return f"the run is {run['state']}: {where}"

    play.stage.until(f"the run of {vm}", within_s, look)
    if run["state"] != ends:
        raise Failed(f"the run is {run['state']}, not {ends}: {run['failure'] or _where(run)}", subject=vm)
    rto = f"answers after {run['rto_s']:.1f} s" if run["rto_s"] else ""
    return str(run["failure"] or rto)


@act.register
def _(step: steps.PowerOn, play: Play) -> str:
    with sites.connect(play.stage.lab.libvirt(step.at)) as connection:
        domain = connection.lookupByName(step.vm)
        if not domain.isActive():
            domain.create()
    return ""


@act.register
def _(step: steps.Off, play: Play) -> str:
    def look() -> str:
        on = play.watcher.vms[step.vm].on.get(step.at)
        return "" if on is False else "its hypervisor does not answer" if on is None else "it runs"

    play.stage.until(f"{step.vm} off at {step.at}", step.within, look)
    return ""


@act.register
def _(step: steps.Portal, play: Play) -> str:
    play.stage.parts.start("portal")
    play.stage.asked = "portal"
    return ""


@act.register
def _(step: steps.Ask, play: Play) -> str:
    play.stage.asked = step.who
    return ""


@act.register
def _(step: steps.TwoPrimaries, play: Play) -> str:
    play.watcher.excuse(step.vm, step.because if step.allowed else "")
    return step.because


@act.register
def _(step: steps.Expect, play: Play) -> str:
    return expect(step, play.stage, play.watcher)


def told(step: steps.Step) -> str:
    """A step in one line, as it stands in the file."""
    fields = step.model_dump(exclude_defaults=True, by_alias=True)
    vm = str(fields.pop("vm", "")) if isinstance(step, steps.VmStep) else ""
    words = [f"{name} {_plain(value)}" for name, value in fields.items()]
    if len(words) == 1 and not vm:
        words = [_plain(next(iter(fields.values())))]
    if isinstance(step, steps.Cut):
        words = [f"{step.source} {'↔' if step.both else '→'} {step.target}"]
    return " ".join([step.verb, *([vm] if vm else []), ", ".join(words)]).strip()


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " and ".join(map(str, value)) if isinstance(value, tuple) else str(value)
