"""Scans as a service: one at a time, in a thread of its own, looked at and cancelled from any other."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum

from leeward.domain.errors import LeewardError, NotFound, Refused
from leeward.logs import log
from leeward.network.discovery import looking_up
from leeward.network.discovery.knocking import Knock, Outcome
from leeward.network.discovery.pace import DEFAULT, Pace
from leeward.network.discovery.ranges import Address, Targets, check_count, parse
from leeward.network.discovery.scanning import scan
from leeward.network.discovery.signs import DOORS, Door, Sign
from leeward.network.discovery.verdicts import Verdict, judge

_KEPT = 10  # newest scans that can be looked at
_LOOK_UP_S = 5.0  # for the names among the ranges
_NAMING_S = 1.5  # for names of what was found that are still missing at the end


class State(StrEnum):
    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """A host with an open door. name: as given, told by libvirt or by the name service; "" when nobody knows."""

    address: Address
    name: str
    signs: tuple[Sign, ...]
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Look:
    """A scan at one moment. total and done count doors × addresses; alive, the addresses where something answered.

    error: why it failed. started: UTC. seconds: how long it runs or ran.
    """

    id: str
    ranges: tuple[str, ...]
    state: State
    started: datetime
    seconds: float
    addresses: int
    total: int
    done: int
    alive: int
    findings: tuple[Finding, ...]
    error: LeewardError | None


class Scans:
    """Results are kept in memory only: the newest ten scans, each of at most 4,096 addresses."""

    def __init__(self, doors: Sequence[Door] = DOORS) -> None:
        self._doors = tuple(doors)
        self._scans: dict[str, _Scan] = {}  # oldest first
        self._lock = threading.Lock()

    def start(self, ranges: Sequence[str], pace: Pace = DEFAULT, *, names: bool = True) -> str:
        """Begin and return the scan's id. names: ask the name service for the names of what is found.

        Raises BadInput for ranges or a pace that cannot be used, Refused while another scan runs.
        """
        pace.check()
        targets = parse(ranges)
        with self._lock:
            for other in self._scans.values():
                if other.is_running:
                    raise Refused("another scan is running", subject=other.id, hint="Wait for it, or cancel it")
            started = _Scan(tuple(ranges), targets, pace, self._doors, names)
            self._scans[started.id] = started
            while len(self._scans) > _KEPT:
                del self._scans[next(iter(self._scans))]
            started.thread.start()
        return started.id

    def look(self, scan_id: str) -> Look:
        return self._get(scan_id).look()

    def all(self) -> list[Look]:
        """Newest first."""
        with self._lock:
            kept = list(self._scans.values())
        return [one.look() for one in reversed(kept)]

    def cancel(self, scan_id: str, wait_s: float = 2.0) -> Look:
        """End it and keep what was found; nothing when it has ended. Waits for the end, but not for longer."""
        one = self._get(scan_id)
        one.cancel()
        one.thread.join(wait_s)
        return one.look()

    def _get(self, scan_id: str) -> _Scan:
        with self._lock:
            one = self._scans.get(scan_id)
        if one is None:
            raise NotFound("there is no such scan", subject=scan_id, hint="Only the newest are kept, in memory")
        return one


class _Scan:
    """One scan and its thread. It is the sink of its own results."""

    def __init__(
        self, ranges: tuple[str, ...], targets: Targets, pace: Pace, doors: tuple[Door, ...], names: bool
    ) -> None:
        self.id = secrets.token_hex(4)
        self.thread = threading.Thread(target=self._run, name=f"scan-{self.id}", daemon=True)
        self._ranges = ranges
        self._targets = targets
        self._pace = pace
        self._doors = doors
        self._started = datetime.now(UTC)
        self._began = time.monotonic()
        self._lock = threading.Lock()  # of all below
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._cancelled = False
        self._state = State.RUNNING
        self._ended = 0.0
        self._error: LeewardError | None = None
        self._addresses = targets.addresses
        self._given: dict[Address, str] = {}  # names among the ranges
        self._names = looking_up.LookUps(looking_up.name_of) if names else None
        self._done = 0
        self._alive: set[Address] = set()
        self._signs: dict[Address, list[Sign]] = {}

    # --- from other threads -------------------------------------------------------------------------

    @property
    def is_running(self) -> bool:
        with self._lock:
            return self._state is State.RUNNING

    def cancel(self) -> None:
        with self._lock:
            self._cancelled = True
            if self._task is not None and self._loop is not None:
                with suppress(RuntimeError):  # the loop has just been closed
                    self._loop.call_soon_threadsafe(self._task.cancel)

    def look(self) -> Look:
        with self._lock:
            signs = {address: tuple(seen) for address, seen in self._signs.items()}
            names = {**(self._names.answers() if self._names else {}), **self._given}
            look = Look(
                id=self.id,
                ranges=self._ranges,
                state=self._state,
                started=self._started,
                seconds=(self._ended or time.monotonic()) - self._began,
                addresses=len(self._addresses),
                total=len(self._addresses) * len(self._doors),
                done=self._done,
                alive=len(self._alive),
                findings=(),
                error=self._error,
            )
        found = [_finding(address, names.get(address, ""), seen) for address, seen in signs.items()]
        return replace(look, findings=tuple(sorted(found, key=lambda one: (one.address.version, int(one.address)))))

    # --- in its own thread --------------------------------------------------------------------------

    def knocked(self, address: Address, door: Door, result: Knock) -> None:
        with self._lock:
            self._done += 1
            if result.outcome in (Outcome.OPEN, Outcome.REFUSED):
                self._alive.add(address)
            if result.sign is not None:
                if self._names is not None and address not in self._signs and address not in self._given:
                    self._names.add(address)
                self._signs.setdefault(address, []).append(result.sign)
                self._signs[address].sort(key=lambda sign: self._doors.index(sign.door))

    def _run(self) -> None:
        error: LeewardError | None = None
        state = State.DONE
        try:
            asyncio.run(self._main())
        except asyncio.CancelledError:
            state = State.CANCELLED
        except LeewardError as raised:
            state, error = State.FAILED, raised
        except Exception as raised:
            log.exception("a scan failed", scan=self.id)
            state, error = State.FAILED, LeewardError(f"the scan failed: {raised!r}")
        with self._lock:
            self._state, self._error, self._ended = state, error, time.monotonic()

    async def _main(self) -> None:
        with self._lock:
            self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
            if self._cancelled:
                raise asyncio.CancelledError
        try:
            await self._look_up()
            await scan(self._addresses, self._pace, self, self._doors)
            if self._names is not None:
                await self._names.settle(_NAMING_S)
        finally:
            if self._names is not None:
                self._names.stop()

    async def _look_up(self) -> None:
        """The names among the ranges become addresses, each scanned once."""
        if not self._targets.names:
            return
        found = await looking_up.addresses_of(self._targets.names, _LOOK_UP_S)
        with self._lock:
            for name, addresses in found.items():
                self._given.update((address, name) for address in addresses if address not in self._given)
            self._addresses = tuple(dict.fromkeys([*self._targets.addresses, *self._given]))
        check_count(len(self._addresses), ", ".join(self._targets.names))


def _finding(address: Address, name: str, signs: tuple[Sign, ...]) -> Finding:
    told = next((sign.libvirt.host_name for sign in signs if sign.libvirt is not None), "")
    return Finding(address, name or told, signs, judge(signs))
