"""The steps of a scenario, as they stand in its file; docs/scenarios.md explains them. What each does: `acting`."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from leeward.domain.durations import seconds
from leeward.domain.errors import LeewardError


def _duration(given: Any) -> Any:
    if not isinstance(given, str):
        return given
    try:
        return seconds(given)
    except LeewardError as error:
        raise ValueError(f"{error.message}; write it like 30s or 2m") from None


def _listed(given: Any) -> Any:
    """One thing may stand without a list around it."""
    return [given] if isinstance(given, str) else given


Duration = Annotated[float, BeforeValidator(_duration), Field(gt=0, le=600)]
Site = Literal["office", "recovery"]
Place = Literal["office", "recovery", "cloud", "hq"]
Process = Literal[
    "console", "portal", "office agent", "recovery agent", "office libvirtd", "recovery libvirtd", "recovery exports"
]
Disk = Literal["office state", "recovery storage"]


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Step(Part):
    """One step. `verb`: its key in the document. within: how long what it waits for may take."""

    verb: ClassVar[str] = ""


class VmStep(Step):
    vm: str


class Protect(VmStep):
    """As `leeward protect VM --rpo`."""

    verb = "protect"
    rpo: str = "1s"


class Wait(VmStep):
    """Until `leeward status` tells all of this. reason: a part of it. fresh: a point of after this step began. run:
    how the newest one stands; retrying: whenever it has stalled, an operator retries."""

    verb = "wait"
    state: str | None = None
    phase: str | None = None
    reason: str | None = None
    spooled: bool | None = None
    fresh: bool = False
    run: Literal["running", "done", "stalled", "undone"] | None = None
    failure: str | None = None
    retrying: bool = False
    within: Duration = 60.0


class Reach(VmStep):
    """Until the newest run is in this step, or has passed it. retrying: as of `wait`."""

    verb = "reach"
    step: str
    retrying: bool = False
    within: Duration = 60.0


class Pass(Step):
    """Time, in which everything goes on."""

    verb = "pass"
    time: Duration


class Kill(Step):
    """kill -9."""

    verb = "kill"
    what: Annotated[tuple[Process, ...], BeforeValidator(_listed)]


class Start(Step):
    """Start what was killed or burnt. A site's libvirtd is started with its own and all that it left behind."""

    verb = "start"
    what: Annotated[tuple[Process, ...], BeforeValidator(_listed)]


class Burn(Step):
    """kill -9 to every process of the site: agent, libvirtd, VMs; what it kept in memory is gone as well."""

    verb = "burn"
    site: Site


class Cut(Step):
    """From now on packets from one place to another vanish; both: those of the other direction as well."""

    verb = "cut"
    source: Place = Field(alias="from")
    target: Place = Field(alias="to")
    both: bool = False


class Heal(Step):
    """All that was cut."""

    verb = "heal"


class Fill(Step):
    """Until nothing more can be written to this disk, but for `leave` MiB."""

    verb = "fill"
    disk: Disk
    leave: int = Field(default=0, ge=0)


class Free(Step):
    verb = "free"
    disk: Disk


class Write(VmStep):
    """Let the guest write new data, where it answers its clients now. That it ends is not waited for."""

    verb = "write"
    megabytes: int = Field(default=10, gt=0, le=20)


class Failover(VmStep):
    """wait: until it has ended; ends: how."""

    verb = "failover"
    kind: Literal["planned", "unplanned", "test"]
    wait: bool = True
    ends: Literal["done", "stalled", "undone"] = "done"
    within: Duration = 120.0


class Failback(VmStep):
    verb = "failback"
    wait: bool = True
    ends: Literal["done", "stalled", "undone"] = "done"
    within: Duration = 120.0


class Commit(VmStep):
    verb = "commit"
    wait: bool = True
    within: Duration = 60.0


class Retry(VmStep):
    verb = "retry"
    wait: bool = True
    ends: Literal["done", "stalled", "undone"] = "done"
    within: Duration = 120.0


class Cancel(VmStep):
    verb = "cancel"
    wait: bool = True
    ends: Literal["undone", "stalled"] = "undone"
    within: Duration = 120.0


class Cleanup(VmStep):
    """Of a test failover."""

    verb = "cleanup"


class PowerOn(VmStep):
    """By somebody who goes to the host and starts the VM there, whatever Leeward thinks of it."""

    verb = "power on"
    at: Site


class Off(VmStep):
    """Until the VM is off at a site, as its hypervisor says."""

    verb = "off"
    at: Site
    within: Duration = 30.0


class Portal(Step):
    """`leeward portal` at the recovery site, with the recovery key; from now on it is the one that is asked."""

    verb = "portal"


class Ask(Step):
    """Whom the following steps ask."""

    verb = "ask"
    who: Literal["console", "portal"]


class TwoPrimaries(VmStep):
    """From now on the VM may run at both sites, or no longer: only where nobody can know better, with the reason."""

    verb = "two primaries"
    allowed: bool
    because: str = ""

    @model_validator(mode="after")
    def _with_a_reason(self) -> TwoPrimaries:
        if self.allowed and not self.because:
            raise ValueError("say because of what")
        return self


class Expect(VmStep):
    """What must be so now. primary: where the VM runs, is plugged in and answers its clients. records: all that
    must have survived the last move is there. tracking: no resynchronization since the scenario began.
    step, says: what a step of the newest run tells."""

    verb = "expect"
    primary: Site | Literal["nowhere"] | None = None
    records: Literal["complete"] | None = None
    tracking: Literal["kept"] | None = None
    state: str | None = None
    phase: str | None = None
    reason: str | None = None
    run: str | None = None
    failure: str | None = None
    step: str | None = None
    says: str | None = None
    within: Duration = 30.0


STEPS: dict[str, type[Step]] = {
    kind.verb: kind
    for kind in (
        Protect, Wait, Reach, Pass, Kill, Start, Burn, Cut, Heal, Fill, Free, Write, Failover, Failback, Commit,
        Retry, Cancel, Cleanup, PowerOn, Off, Portal, Ask, TwoPrimaries, Expect,
    )
}  # fmt: skip
# What may stand for a step's fields when there is but one to name: `- burn: office`.
SHORT = {
    "pass": "time",
    "kill": "what",
    "start": "what",
    "burn": "site",
    "free": "disk",
    "fill": "disk",
    "ask": "who",
}
