"""The procedures that move a VM between its sites: their steps in order, what takes each back, what is final.

Pure data. What a step does is bound in `leeward.orchestrator`; here stands what an operator is told beforehand.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """TEST and its CLEANUP leave the VM's phase alone; the others move it (see lifecycle)."""

    TEST = "test"
    CLEANUP = "cleanup"
    PLANNED = "planned"
    UNPLANNED = "unplanned"
    COMMIT = "commit"
    FAILBACK = "failback"
    FINISH = "finish"


@dataclass(frozen=True, slots=True)
class Step:
    """name: also that of its action. tells: what it does, for people. undo: the action that takes it back ("" when
    there is nothing to take back). final: from the moment it begins there is no way back, only forward."""

    name: str
    tells: str
    undo: str = ""
    final: bool = False


_BUILD = Step("build", "Make the VM at the recovery site out of the recovery point", "discard")
_BOOT = Step("boot", "Wait until its guest has come up")
# It boots with its network unplugged: until this last step nobody has seen it, and all can be taken back. And a home
# site that could not be reached, but lives, has meanwhile found its log closed and stopped its VM.
_START = Step("start", "Start the VM at the recovery site, unplugged from the network", "discard")
_PLUG = Step("plug", "Plug it in: from here on clients reach it", final=True)

STEPS: dict[Kind, tuple[Step, ...]] = {
    Kind.TEST: (
        Step("build", "Make a copy out of the recovery point, apart from everything", "discard"),
        Step("start", "Start the copy", "discard"),
        _BOOT,
    ),
    Kind.CLEANUP: (Step("discard", "Remove the copy, its disks and its network"),),
    Kind.PLANNED: (
        Step("check", "See that the recovery site can take the VM"),
        Step("stop", "Shut the VM down at home", "restart"),
        Step("last-cycle", "Bring its last changes into the vault and prove that vault and source agree"),
        Step("stand-down", "Let the VM at home stay off", "stand-up"),
        Step("epoch", "Close the log to the home site", "epoch-back"),
        _BUILD,
        _START,
        _PLUG,
        _BOOT,
        Step("protect", "Protect it in the reverse direction"),
    ),
    Kind.UNPLANNED: (
        Step("check", "See that the recovery site can take the VM"),
        Step("fence", "Stop the VM at home, if home can be reached", "stand-up"),
        Step("epoch", "Close the log to the home site", "epoch-back"),
        _BUILD,
        _START,
        _PLUG,
        _BOOT,
        Step("protect", "Protect it in the reverse direction"),
    ),
    Kind.COMMIT: (Step("settle", "Let go of what was kept for the way back"),),
    Kind.FAILBACK: (
        Step("check-home", "See that the home site can take the VM back"),
        Step("prepare", "Write its new disks beside the old ones while it runs on", "revert"),
        Step("stop-away", "Shut the VM down at the recovery site", "restart-away"),
        Step("last-cycle-away", "Bring its last changes into the vault and prove that vault and disks agree"),
        Step("stand-down-away", "Let the VM at the recovery site stay off", "stand-up-away"),
        Step("catch-up", "Bring the last changes into the new disks"),
        Step("epoch-home", "Close the log to the recovery site", "epoch-away"),
        Step("switch", "Let the VM at home use its new disks", "revert"),
        Step("start-home", "Start the VM at home", final=True),
        Step("boot-home", "Wait until its guest has come up"),
        Step("protect-home", "Protect it again"),
    ),
    Kind.FINISH: (
        Step("settle-home", "Delete the old disks at home"),
        Step("discard-away", "Remove the copy at the recovery site"),
    ),
}


def steps(kind: Kind) -> tuple[Step, ...]:
    return STEPS[kind]


def reversible(kind: Kind, begun: int) -> bool:
    """Whether a run can be taken back of which `begun` steps have been begun."""
    return not any(step.final for step in STEPS[kind][:begun])


def undo_order(kind: Kind, begun: int) -> tuple[str, ...]:
    """The actions that take `begun` begun steps back, latest first; one that serves several steps comes once."""
    order: list[str] = []
    for step in reversed(STEPS[kind][:begun]):
        if step.undo and step.undo not in order:
            order.append(step.undo)
    return tuple(order)
