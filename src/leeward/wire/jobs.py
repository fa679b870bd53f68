"""Jobs: one-shot work that the console gives to an agent, and what the agent tells of it. Version 1.

A job is named by its id, its idempotency key: giving the same id twice is the same as giving it once. The agent keeps
jobs durably, goes on with unfinished ones after a restart (every kind is harmless to repeat), and remembers the
outcome until the console has let go of it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import Field

from leeward.wire.messages import Message


class JobState(StrEnum):
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class JobKind(StrEnum):
    """What an agent can be asked to do; arguments and results are told where the agent does it (`agent/tasks`)."""

    STOP = "stop"  # shut a VM down
    START = "start"  # start a VM again where it was stopped
    LAST_CYCLE = "last-cycle"  # of a VM that is off: put all of it into the vault and prove it
    STAND_DOWN = "stand-down"  # this host's VM must not run any more: keep it off
    STAND_UP = "stand-up"  # take a stand-down back
    TAKE_EPOCH = "take-epoch"  # become the one writer of a VM's log
    UNOWE = "unowe"  # an epoch that could not be taken without the vault is not to be taken any more
    COPY_BUILD = "copy-build"  # make a VM out of a recovery point, not yet started
    COPY_START = "copy-start"
    COPY_PLUG = "copy-plug"  # connect its network
    COPY_WATCH = "copy-watch"  # until its guest has come up
    COPY_PICTURE = "copy-picture"  # of its screen, as evidence of a test
    COPY_SETTLE = "copy-settle"  # it stays: nothing is kept for the way back any more
    COPY_DISCARD = "copy-discard"  # remove all that was made for it
    PROBE = "probe"  # look whether something is true of a VM that was brought up
    HOME_PREPARE = "home-prepare"  # write new disks beside the original's, while the VM runs elsewhere
    HOME_CATCH_UP = "home-catch-up"  # bring them up to a later point
    HOME_SWITCH = "home-switch"  # let the original VM use the new disks
    HOME_START = "home-start"
    HOME_WATCH = "home-watch"  # until its guest has come up
    HOME_SETTLE = "home-settle"  # the new disks stay: delete the old ones
    HOME_REVERT = "home-revert"  # the old disks stay: delete the new ones


# What of a result is large, and forgotten as soon as it has been noted.
PNG = "png"


def without_bulk(result: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in result.items() if name != PNG}


class Failure(Message):
    """A `LeewardError` as it crosses."""

    code: str
    message: str
    subject: str = ""
    hint: str = ""
    exit_code: int = 1


class Job(Message):
    """host: the agent's host on which it is done. arguments: as the kind wants them, plain JSON."""

    id: str = Field(min_length=1, max_length=200)
    kind: JobKind
    vm_id: str
    host: str
    arguments: dict[str, Any] = Field(default_factory=dict)


class JobReport(Message):
    """progress: one line for people. started, ended: UTC seconds. failure: why, when it failed."""

    id: str
    state: JobState
    progress: str = ""
    result: dict[str, Any] = Field(default_factory=dict)
    failure: Failure | None = None
    started: float
    ended: float | None = None
