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
    UNPLANNED_FAILBACK = "unplanned-failback"
    FINISH = "finish"


@dataclass(frozen=True, slots=True)
class Step:
    """name: also that of its action. tells: what it does, for people. undo: the actions that take it back, in order.

    final: once it is under way there is no way back, only forward, unless it failed. tidy: its undo brings nothing
    back to life, it only clears away; so it comes last, and a dead host that is to be cleared keeps no VM off.
    """

    name: str
    tells: str
    undo: tuple[str, ...] = ()
    final: bool = False
    tidy: bool = False


_BUILD = Step("build", "Make the VM at the recovery site out of the recovery point", ("discard",), tidy=True)
_BOOT = Step("boot", "Wait until its guest has come up")
# It boots with its network unplugged: until this last step nobody has seen it, and all can be taken back. And a home
# site that could not be reached, but lives, has meanwhile found its log closed and stopped its VM.
_START = Step("start", "Start the VM at the recovery site, unplugged from the network", ("discard",), tidy=True)
_PLUG = Step("plug", "Plug it in: from here on clients reach it", final=True)

STEPS: dict[Kind, tuple[Step, ...]] = {
    Kind.TEST: (
        Step("build", "Make a copy out of the recovery point, apart from everything", ("discard",)),
        Step("start", "Start the copy", ("discard",)),
        _BOOT,
        Step("picture", "Take a picture of its screen"),
    ),
    Kind.CLEANUP: (Step("discard", "Remove the copy, its disks and its network"),),
    Kind.PLANNED: (
        Step("check", "See that the recovery site can take the VM"),
        Step("stop", "Shut the VM down at home", ("restart",)),
        # Before the last cycle, so that nobody starts the VM between the proof and its end.
        Step("stand-down", "Let the VM at home stay off", ("stand-up",)),
        Step("last-cycle", "Bring its last changes into the vault and prove that vault and source agree"),
        Step("epoch", "Close the log to the home site", ("epoch-back",)),
        _BUILD,
        _START,
        _PLUG,
        _BOOT,
        Step("protect", "Protect it in the reverse direction"),
    ),
    Kind.UNPLANNED: (
        Step("check", "See that the recovery site can take the VM"),
        Step("fence", "Stop the VM at home, if home can be reached", ("stand-up", "restart")),
        # Without the vault, out of a warm replica: owed, and taken as soon as the vault is back.
        Step("epoch", "Close the log to the home site", ("unowe", "epoch-back")),
        _BUILD,
        _START,
        _PLUG,
        _BOOT,
        Step("protect", "Protect it in the reverse direction"),
    ),
    Kind.COMMIT: (Step("settle", "Let go of what was kept for the way back"),),
    Kind.FAILBACK: (
        Step("check-home", "See that the home site can take the VM back"),
        Step("prepare", "Write its new disks beside the old ones while it runs on", ("revert",), tidy=True),
        Step("stop-away", "Shut the VM down at the recovery site", ("restart-away",)),
        Step("stand-down-away", "Let the VM at the recovery site stay off", ("stand-up-away",)),
        Step("last-cycle-away", "Bring its last changes into the vault and prove that vault and disks agree"),
        Step("catch-up", "Bring the last changes into the new disks"),
        Step("epoch-home", "Close the log to the recovery site", ("epoch-away",)),
        Step("switch", "Let the VM at home use its new disks", ("revert",), tidy=True),
        Step("start-home", "Start the VM at home", final=True),
        Step("boot-home", "Wait until its guest has come up"),
        Step("protect-home", "Protect it again"),
    ),
    # The recovery site is gone: nothing can be shut down or brought into the vault there, so the log is closed first.
    Kind.UNPLANNED_FAILBACK: (
        # It may have taken over from a failover that had not come to plugging the VM in and protecting it there.
        Step(
            "check-home",
            "See that the home site can take the VM back, and what is lost",
            ("plug-away", "protect-away", "boot-away"),
        ),
        Step(
            "fence-away",
            "Stop the VM at the recovery site, if that can be reached",
            ("stand-up-away", "restart-away"),
        ),
        Step("epoch-home", "Close the log to the recovery site", ("epoch-away",)),
        Step("prepare", "Write its new disks beside the old ones", ("revert",), tidy=True),
        Step("switch", "Let the VM at home use its new disks", ("revert",), tidy=True),
        Step("start-home", "Start the VM at home", final=True),
        Step("boot-home", "Wait until its guest has come up"),
        Step("protect-home", "Protect it again"),
    ),
    Kind.FINISH: (
        Step("settle-home", "Delete the old disks at home"),
        Step("discard-away", "Remove the copy at the recovery site"),
    ),
}

# What a failover that was taken over had to do yet, where the VM stays there after all.
RESUMED = ("plug-away", "boot-away")

UNDO_TELLS: dict[str, str] = {
    "discard": "Remove what was made at the recovery site",
    "unowe": "Let the recovery site not take the log over later",
    "epoch-back": "Give the log back to the home site",
    "stand-up": "Let the VM run at home again",
    "restart": "Start the VM at home again",
    "revert": "Let the VM at home stay off and keep its old disks",
    "epoch-away": "Give the log back to the recovery site",
    "plug-away": "Plug it in at the recovery site",
    "protect-away": "Protect it at the recovery site",
    "boot-away": "Wait until its guest has come up there",
    "stand-up-away": "Let the VM run at the recovery site again",
    "restart-away": "Start the VM at the recovery site again",
}


def steps(kind: Kind) -> tuple[Step, ...]:
    return STEPS[kind]


def undo_order(kind: Kind, begun: int) -> tuple[str, ...]:
    """The actions that take `begun` begun steps back; one that serves several steps comes once.

    Latest first, what only tidies last. But once a final step was begun (and failed: see `Run.reversible`) what it
    may have left running is cleared away first.
    """
    steps = STEPS[kind][:begun]
    tried = any(step.final for step in steps)
    late = [step for step in steps if step.tidy and not tried]
    order: list[str] = []
    for step in [step for step in reversed(steps) if step not in late] + late[::-1]:
        order += [action for action in step.undo if action not in order]
    return tuple(order)
