"""What an agent remembers across restarts: the desired state, where it reigns, what it holds still and keeps off, and
which epochs it has to take yet."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from leeward.domain.errors import BadInput, LeewardError, Unavailable
from leeward.logs import log
from leeward.recovery.durable import write_text
from leeward.wire.messages import DesiredState


@dataclass(frozen=True, slots=True)
class Reigned:
    """The epoch in which this agent writes a VM's log, and from which of its hosts ("": older, not noted)."""

    epoch: int
    host: str = ""


@dataclass(frozen=True, slots=True)
class StandDown:
    """A VM that must not run on this host. reason: for people. autostart: its host would start it by itself,
    before."""

    vm_id: str
    vm_name: str
    host: str
    reason: str
    autostart: bool = False


@dataclass(frozen=True, slots=True)
class Owed:
    """An epoch of a VM's log that could not be begun, since the vault was away, and is to be as soon as it is back.

    claim: the epoch that was seen last, see `VmLog.take_epoch`. info: what the epoch will tell. runs: the ones whose
    taking it may follow as well: its own, and those that it takes over from or takes back.
    """

    vm_id: str
    vm_name: str
    host: str
    claim: int
    info: dict[str, Any]
    runs: list[str]


class Ledger:
    """One JSON file, replaced atomically and durably; safe from several threads.

    Methods that change something raise Unavailable when it cannot be written down.

    on_standdowns: told all that stand down, before one more is written here and after one less is: who acts on it may
    keep one off too long when we die in between, never too short. It is told at once, too.
    """

    def __init__(self, path: Path, on_standdowns: Callable[[list[StandDown]], None] = lambda held: None) -> None:
        self._path = path
        self._on_standdowns = on_standdowns
        self._lock = threading.Lock()
        self.desired = DesiredState(generation=0)
        self._reigns: dict[str, Reigned] = {}
        self._held: set[tuple[str, str]] = set()
        self._standdowns: dict[tuple[str, str], StandDown] = {}
        self._owed: dict[tuple[str, str], Owed] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            try:
                self._read(json.loads(path.read_text()))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise BadInput(
                    f"the agent's ledger cannot be read ({error})",
                    subject=str(path),
                    hint="Restore it, or move it away and protect the VMs again: what is in the vault is kept",
                ) from error
        try:
            on_standdowns(list(self._standdowns.values()))
        except LeewardError as error:  # what was told before holds on, and the guard keeps them off all the same
            log.warning("the host was not told whom to keep off", error=str(error))

    def _read(self, stored: dict[str, Any]) -> None:
        self.desired = DesiredState.model_validate(stored["desired"])
        for vm_id, found in stored["epochs"].items():
            self._reigns[str(vm_id)] = Reigned(found) if isinstance(found, int) else Reigned(**found)
        held = stored.get("held", [])
        self._held = {(str(host), str(vm_id)) for host, vm_id in (held if isinstance(held, list) else _older(held))}
        for found in stored.get("standdowns", []):
            standdown = StandDown(**found)
            self._standdowns[standdown.host, standdown.vm_id] = standdown
        for found in stored.get("owed", []):
            owed = Owed(**found)
            self._owed[owed.host, owed.vm_id] = owed

    # --- desired state and epochs ---------------------------------------------------------------------

    def save_desired(self, desired: DesiredState) -> None:
        """Kept, or not taken over at all: half a change of mind would never be told again."""
        with self._lock, self._kept_or_not_done():
            self.desired = desired
            self._write()

    def epoch_of(self, vm_id: str, host: str) -> int | None:
        """The epoch in which the VM's log is written from this host; None when it is not, as far as we know."""
        with self._lock:
            found = self._reigns.get(vm_id)
        return found.epoch if found and found.host in (host, "") else None

    def reigns(self) -> dict[str, Reigned]:
        with self._lock:
            return dict(self._reigns)

    def epochs(self) -> dict[str, int]:
        with self._lock:
            return {vm_id: reigned.epoch for vm_id, reigned in self._reigns.items()}

    def save_epoch(self, vm_id: str, epoch: int, host: str) -> None:
        """A worker that is about to be ended, since a later epoch has begun meanwhile, does not turn this back."""
        with self._lock:
            known = self._reigns.get(vm_id)
            if known is not None and known.host == host and known.epoch > epoch:
                return
            if self._reigns.get(vm_id) != Reigned(epoch, host):
                self._reigns[vm_id] = Reigned(epoch, host)
                self._write()

    def forget(self, vm_id: str, reigned: Reigned | None = None) -> None:
        """reigned: only if it is this one still."""
        with self._lock:
            if vm_id in self._reigns and reigned in (None, self._reigns[vm_id]):
                del self._reigns[vm_id]
                self._write()

    # --- held still -----------------------------------------------------------------------------------

    def hold(self, vm_id: str, host: str) -> None:
        """Replicate nothing from this host although it is wished, until `unhold`: a failover is under way."""
        with self._lock:
            if (host, vm_id) not in self._held:
                with self._kept_or_not_done():
                    self._held.add((host, vm_id))
                    self._write()

    def unhold(self, vm_id: str, host: str) -> None:
        with self._lock:
            if (host, vm_id) in self._held:
                with self._kept_or_not_done():
                    self._held.remove((host, vm_id))
                    self._write()

    def holds(self, vm_id: str, host: str) -> bool:
        """Also while an epoch is owed: nothing is replicated before it has begun."""
        with self._lock:
            return any((host, vm_id) in found for found in (self._held, self._standdowns, self._owed))

    def held_at(self, host: str, gone: Collection[str] = ()) -> set[str]:
        """Ids of the VMs that are held still or kept off at this host, or owe an epoch there. gone: of those that are
        not defined there any more, so that nothing is kept off."""
        with self._lock:
            kept_off = {(at, vm_id) for at, vm_id in self._standdowns if vm_id not in gone}
            return {vm_id for found in (self._held, kept_off, self._owed) for at, vm_id in found if at == host}

    # --- owed -----------------------------------------------------------------------------------------

    def owe(self, owed: Owed) -> None:
        """Kept, or not owed at all: a VM is started on the strength of this."""
        with self._lock:
            if self._owed.get((owed.host, owed.vm_id)) != owed:
                with self._kept_or_not_done():
                    self._owed[owed.host, owed.vm_id] = owed
                    self._write()

    def unowe(self, vm_id: str, host: str) -> None:
        with self._lock:
            if (host, vm_id) in self._owed:
                with self._kept_or_not_done():
                    del self._owed[host, vm_id]
                    self._write()

    def owed(self, vm_id: str, host: str) -> Owed | None:
        with self._lock:
            return self._owed.get((host, vm_id))

    def all_owed(self) -> list[Owed]:
        with self._lock:
            return list(self._owed.values())

    # --- kept off -------------------------------------------------------------------------------------

    def stand_down(self, standdown: StandDown, after: int | None = None) -> bool:
        """after: the epoch by which the VM went elsewhere; False, and nothing is done, when we have begun a later one
        since. Where it cannot be written down the VM is kept off all the same, until the agent's end."""
        with self._lock:
            ours = self._reigns.get(standdown.vm_id)
            if after is not None and ours is not None and ours.host == standdown.host and ours.epoch > after:
                return False
            known = self._standdowns.get((standdown.host, standdown.vm_id))
            noted = replace(standdown, autostart=standdown.autostart or (known is not None and known.autostart))
            if noted != known:
                held = {**self._standdowns, (standdown.host, standdown.vm_id): noted}
                try:
                    self._on_standdowns(list(held.values()))
                except LeewardError as error:  # the guard keeps it off all the same
                    log.warning("the host was not told to keep it off", vm=standdown.vm_name, error=str(error))
                self._standdowns = held
                self._write()
            return True

    def stand_up(self, vm_id: str, host: str) -> None:
        """From here on the VM may run on this host again. Raises LeewardError while that cannot be told."""
        with self._lock:
            if (host, vm_id) in self._standdowns or (host, vm_id) in self._held:
                with self._kept_or_not_done():
                    self._standdowns.pop((host, vm_id), None)
                    self._held.discard((host, vm_id))
                    self._write()
            # Also when it is no news: the last time we may have died before it was told.
            self._on_standdowns(list(self._standdowns.values()))

    def take_over(self, renamed: Mapping[str, str]) -> None:
        """What stands down at a host stands down there by its new name. renamed: old name → new one. Raises
        LeewardError while that cannot be told or written down."""
        with self._lock:
            held = dict(self._standdowns)
            for (host, vm_id), standdown in self._standdowns.items():
                if host in renamed:
                    del held[host, vm_id]
                    held.setdefault((renamed[host], vm_id), replace(standdown, host=renamed[host]))
            self._on_standdowns(list(held.values()))
            if held != self._standdowns:
                with self._kept_or_not_done():
                    self._standdowns = held
                    self._write()

    def standdown(self, vm_id: str, host: str) -> StandDown | None:
        with self._lock:
            return self._standdowns.get((host, vm_id))

    def standdowns(self) -> list[StandDown]:
        with self._lock:
            return list(self._standdowns.values())

    @contextmanager
    def _kept_or_not_done(self) -> Iterator[None]:
        """Where it cannot be written down it is as before: else the next time it would pass for done, and after a
        restart it would not be."""
        before = self.desired, set(self._held), dict(self._standdowns), dict(self._owed)
        try:
            yield
        except LeewardError:
            self.desired, self._held, self._standdowns, self._owed = before
            raise

    def _write(self) -> None:
        write_durably(
            self._path,
            {
                "desired": self.desired.model_dump(mode="json"),
                "epochs": {vm_id: asdict(reigned) for vm_id, reigned in self._reigns.items()},
                "held": sorted(self._held),
                "standdowns": [asdict(standdown) for standdown in self._standdowns.values()],
                "owed": [asdict(owed) for owed in self._owed.values()],
            },
        )


def _older(held: dict[str, str]) -> list[tuple[str, str]]:
    """VM id → host, as ledgers once were."""
    return [(host, vm_id) for vm_id, host in held.items()]


def write_durably(path: Path, document: dict[str, Any]) -> None:
    """See `leeward.recovery.durable.write_text`. Raises Unavailable when the disk takes nothing: full, or broken."""
    try:
        write_text(path, json.dumps(document))
    except OSError as error:
        raise Unavailable(
            f"the agent cannot keep what it was told: {error.strerror or error}",
            subject=str(path.parent),
            hint="See whether its disk has room",
        ) from error
