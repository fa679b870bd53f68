"""Port: a hypervisor host as a source of VMs and their changes, and as a place where VMs run.

Shaped by libvirt (pull-mode backup with checkpoints) and Hyper-V (recovery snapshot, RCT, reference points): a
*cycle* freezes all disks of a VM at one instant, tells what changed since a *tracking point*, lets them be read, and
ends in `commit` (the new tracking point replaces the old one) or `abort` (the old one stays, the new one goes).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from leeward.domain.blocks import Runs
from leeward.domain.vm import Consistency, FirmwareState, VmFacts
from leeward.ports.blocks import BlockReader


class Cycle(Protocol):
    """One frozen instant of one VM. Use it as a context manager: leaving without `commit` aborts.

    A VM has one cycle at a time. It ends once, with `commit` or `abort`; nothing can be read afterwards.
    """

    @property
    def time_ns(self) -> int:
        """The instant that all disks agree on (never later than the true instant), UTC ns."""

    @property
    def consistency(self) -> Consistency:
        """What was reached, which may be less than what was asked for: then `warnings` says why, unless the VM is
        off and has nothing to freeze."""

    @property
    def warnings(self) -> tuple[str, ...]: ...

    @property
    def vm(self) -> VmFacts:
        """Facts as of this cycle: name, disks with sizes, definition, firmware.

        The firmware's state is read beside the instant, never before it; None (and a warning) when it cannot be.
        """

    @property
    def tracking(self) -> str:
        """Token of the tracking point that holds once this cycle commits; store it with the data.

        For a VM that is off no new one can be made: the token is then the base's own ("" when there is none), and
        the next cycle's changes include this one's again. It is "" too when the host cannot track one of the disks
        (`warnings` says which): then every cycle reads everything.
        """

    @property
    def superset(self) -> bool:
        """True: `changes` may name blocks that are unchanged (full read, or a VM that is off): compare hashes.
        False: it names just the blocks of 64 KiB that were written to."""

    def changes(self, disk: str) -> Runs:
        """Blocks to look at since the base (or all, when there is no base), in blocks of 64 KiB.

        Blocks that were changed and are zero now are never left out: zero runs where the host knows (they were
        discarded, or zeroed by request), else data that reads as zeros. Without a base, everything that is not in
        the result reads as zeros.
        """

    def reader(self, disk: str) -> BlockReader:
        """What it reads after the cycle's end, or after the VM's, is an error, never later data."""

    def check(self) -> None:
        """Raise HypervisorError when what was read can no longer be trusted to be the instant: the host dropped the
        job, the VM went off or was killed, or one that was off was started meanwhile (HostBusy; also when it is off
        again). Call it after the last read and before the vault's commit."""

    def release(self) -> None:
        """Let the instant go, once all is read and `check` has passed: what a running guest writes is not kept beside
        it any more, however long the vault takes. Nothing can be read afterwards; both tracking points stay until
        `commit` or `abort`. Never raises."""

    def commit(self) -> None:
        """End the job, then drop the old tracking point. Call only after the vault's commit is durable. Raises
        HypervisorError when the cycle is over already."""

    def abort(self) -> None:
        """End the job and drop the *new* tracking point; never raises, never touches the base. Nothing when the
        cycle is over already."""

    def __enter__(self) -> Cycle: ...

    def __exit__(self, *exc: object) -> None: ...


class Hypervisor(Protocol):
    """One host. Methods block; safe from several threads. Errors: HypervisorError and its children.

    VMs are named by their UUID.
    """

    @property
    def name(self) -> str: ...

    def vms(self) -> list[VmFacts]: ...

    def vm(self, vm_id: str) -> VmFacts:
        """Raises VmGone."""

    def idle_mark(self, vm_id: str) -> str | None:
        """Of a VM that is off: a value that stays the same for as long as its disks, its definition and its
        firmware's state do. None while it runs or is paused. Take it before a cycle to know later that nothing
        happened since."""

    def start(self, vm_id: str) -> None:
        """Start (or resume a paused VM); nothing when it runs already."""

    def shutdown(self, vm_id: str, timeout_s: float) -> bool:
        """Ask the guest (agent, then ACPI) and wait; True when it is off, False when time ran out, at once for a
        paused one, which hears nothing. Raises HypervisorError for one that is off since its memory was saved: what
        its disks lack is there."""

    def force_off(self, vm_id: str) -> None:
        """As if its power was cut; tracking survives. Nothing when it is off."""

    def pause(self, vm_id: str) -> bool:
        """Let the guest stand still, its writes done. True: it ran until now. False, and nothing is done: it is off,
        or stands still already."""

    def resume(self, vm_id: str) -> bool:
        """Let a guest go on that `pause` has stopped. True: it stood still until now. Nothing, and False, when it
        runs, is off, or stands still for another reason than somebody's wish (an I/O error, a migration)."""

    def autostart(self, vm_id: str) -> bool:
        """Whether the host starts the VM by itself when it boots."""

    def set_autostart(self, vm_id: str, wanted: bool) -> None: ...

    def open_cycle(
        self,
        vm_id: str,
        *,
        base: str | None,
        new: str,
        consistency: Consistency = Consistency.CRASH,
        moment: AbstractContextManager[None] | None = None,
    ) -> Cycle:
        """Freeze all disks of the VM at one instant.

        base: token of the last committed tracking point; None = read everything. Leftovers of our own dead runs
        (a stale job, tracking points other than `base`) are cleared first; foreign ones are never touched.
        new: token for the new tracking point (`[A-Za-z0-9._-]{1,64}`), unique for the VM.
        moment: is entered when all that takes time before the instant is done, and left when the instant is fixed,
        so that several VMs can have theirs while all of them stand still. What it raises goes to the caller.
        Raises TrackingLost (base unknown or broken, a disk was added or replaced: call again with base=None),
        HostBusy (foreign job), VmGone, HypervisorError.
        """

    def forget(self, vm_id: str) -> None:
        """Remove every trace of ours from the VM (jobs, tracking points), for `unprotect`; of one that is off too."""


@dataclass(frozen=True, slots=True)
class Made:
    """A VM that was defined out of a recovery point, not yet started.

    network: what it hangs on, for people. warnings: how it differs from the original, in words. marks: of each of its
    images something that changes when the image is written to.
    """

    vm_id: str
    name: str
    network: str
    warnings: tuple[str, ...]
    marks: dict[str, str]


@dataclass(frozen=True, slots=True)
class Owner:
    """A user and a group, by their numbers."""

    uid: int
    gid: int


class RecoveryHost(Protocol):
    """A host that runs recovered VMs. Everything made here carries a tag and can be removed by it.

    Disks are given as name → NBD URI (`nbd+unix:///vda?socket=…`) of the read-only point: the VM gets a copy-on-write
    image for each; or as the path of a whole image, which it gets itself. It stops (never reports an error to the
    guest) on I/O errors. firmware: what the original kept outside of its disks; it is in place before the first start
    as far as the host can (else `Made.warnings` says so).
    Making is idempotent for a tag as long as the VM has not been started. Errors: HypervisorError and its children.
    """

    @property
    def name(self) -> str: ...

    def opener(self) -> Owner:
        """Who opens what is served to this host's VMs."""

    def require_room(self, needed: int, promised: int) -> None:
        """Raise StoreFull when the storage cannot take `needed` bytes more besides the `promised` ones."""

    def require_free(self, tag: str, vm_id: str, name: str) -> None:
        """Raise Refused when a VM that is not of this tag has the identity or the name."""

    def create_test_vm(
        self,
        *,
        tag: str,
        name: str,
        definition: str,
        disks: Mapping[str, str],
        sizes: Mapping[str, int],
        firmware: FirmwareState,
        shared: str = "",
    ) -> Made:
        """A throwaway copy with its own identity and addresses, on an isolated network.

        shared: copies with the same one are on one such network, which goes with the last of them; "": alone.
        """

    def create_failover_vm(
        self,
        *,
        tag: str,
        definition: str,
        disks: Mapping[str, str],
        sizes: Mapping[str, int],
        networks: Mapping[str, str],
        firmware: FirmwareState,
    ) -> Made:
        """The VM itself, with its identity and addresses. networks: what a card hangs on → where it goes here.

        Raises BadInput or Refused for a network that there is not.
        """

    def start(self, vm_id: str) -> None:
        """Start, or resume a paused VM; nothing when it runs."""

    def start_tracked(
        self,
        vm_id: str,
        token: str,
        made: Mapping[str, str],
        release: Callable[[], None],
        on_step: Callable[[str], None],
    ) -> bool:
        """Start a VM that has never run, its changes tracked under `token` from before the guest's first write.

        made: the marks of its images. release: called before the guest may write; from then on use `start`. on_step:
        told named instants in between. Returns False when it had to start untracked: somebody wrote already, or no
        tracking point could be made.
        """

    def plug(self, vm_id: str) -> None:
        """Connect the cards of a failover VM, which is made with its links down. What was down at home stays so."""

    def running(self, vm_id: str) -> bool: ...

    def resume_after_error(self, vm_id: str, *, revive: bool) -> bool:
        """Let a VM go on that an I/O error paused, and with `revive` start one again whose hypervisor died; True when
        it did."""

    def has_agent(self, vm_id: str) -> bool: ...

    def agent_answers(self, vm_id: str) -> bool: ...

    def screenshot(self, vm_id: str) -> bytes:
        """What its screen shows, as a PPM or PNG file. Raises HypervisorError where it has none."""

    def hydrate(self, vm_id: str, slice_s: float) -> Sequence[str]:
        """Go on copying what still hangs on NBD into the images; returns the disks not yet free of it.

        A replicator of the same VM gets its turn after at most `slice_s` seconds of progress.
        """

    def destroy(self, tag: str, *, keep_images: bool = False) -> None:
        """Remove all that was made under `tag`: VM, firmware's state, images (unless kept), network. Idempotent."""
