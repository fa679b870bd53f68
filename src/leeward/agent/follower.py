"""The follower: brings the warm replicas on this agent's hosts to the newest points, as points come.

It only reads the vault, at a bounded pace and bandwidth, and serves the VMs in turn: one whose first copy takes hours
gives way to others now and then. What goes wrong with a replica is told with it, and tried again ever more rarely.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Protocol

from leeward.domain.errors import HostBusy, LeewardError, NotFound, Refused
from leeward.domain.protection import ReplicaState
from leeward.logs import log
from leeward.replication.limiter import Limiter
from leeward.wire.messages import ReplicaMessage, ReplicaReport
from leeward.wire.translate import utc

_LOOK_S = 0.5
# The shortest time between two looks at a VM's log, and the longest after errors.
PACE_S, _LONGEST_S = 3.0, 60.0
# VMs side by side, and how long the first turn of one is while others wait; each next one is twice as long, since an
# advance that is ended early looks through again what it had written.
_PARALLEL, _TURN_S = 3, 60.0
_SPARE_S = 15.0
_CACHE_S = 1.0


def pace(rpo_s: float) -> float:
    """Seconds between two looks at the log of a VM with this target. Pure."""
    return max(PACE_S, rpo_s)


OnProgress = Callable[[int, int, int], None]


class Record(Protocol):
    """Of `leeward.recovery.replica.ReplicaRecord` what is told."""

    vm_id: str
    tag: str
    point: str
    time_ns: int
    taken: str
    epoch: int
    moved_to: str


class Replicas(Protocol):
    """Of one host; see `leeward.recovery.replica.Replicas`."""

    def advance(self, vm_id: str, point_id: str = "latest", progress: OnProgress = ...) -> object | None: ...
    def record(self, vm_id: str) -> Record | None: ...
    def records(self) -> Sequence[Record]: ...
    def sizes(self) -> Mapping[str, int]: ...
    def remove(self, vm_id: str) -> None: ...


class TurnOver(Exception):
    """An advance ends here; the next one goes on."""


@dataclass(slots=True)
class _Turn:
    """What is known of one VM between two looks. due: monotonic seconds. queued: it waits for a thread; busy: it has
    one."""

    due: float = 0.0
    turn_s: float = field(default_factory=lambda: _TURN_S)
    failures: int = 0
    trouble: str = ""
    fraction: float = 0.0
    queued: bool = False
    busy: bool = False


class Follower:
    """wishes: None while it is not known what is wished. replicas: by host name; a host that is not among them cannot
    keep any."""

    def __init__(
        self, wishes: Callable[[], Sequence[ReplicaMessage] | None], replicas: Mapping[str, Callable[[], Replicas]]
    ) -> None:
        self._wishes = wishes
        self._replicas = replicas
        self._turns: dict[tuple[str, str], _Turn] = {}
        self._spared: dict[str, int] = {}
        self._waiting = 0
        self._cache: tuple[float, dict[tuple[str, str], ReplicaReport]] = (float("-inf"), {})
        self._lock = threading.Condition()
        self._over = threading.Event()
        self._pool = ThreadPoolExecutor(_PARALLEL, thread_name_prefix="follow")
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """An advance under way ends soon; killed, it would go on just as well."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        self._pool.shutdown(wait=False, cancel_futures=True)
        ends = time.monotonic() + timeout_s
        while any(turn.busy for turn in list(self._turns.values())) and time.monotonic() < ends:
            time.sleep(0.02)

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                self.look()
            except Exception:  # a bug here must not end the following of all VMs
                log.exception("the follower stumbled")
            self._over.wait(_LOOK_S)

    def look(self) -> None:
        """Begin what is due, and remove what is no longer wished."""
        wishes = self._wishes()
        if wishes is None:
            return
        try:
            self._look(wishes)
        except LeewardError as error:  # no key yet
            log.debug("the replicas cannot be looked after", error=str(error))

    def _look(self, wishes: Sequence[ReplicaMessage]) -> None:
        now = time.monotonic()
        wanted = {(wish.host, wish.vm_id): wish for wish in wishes if wish.host in self._replicas}
        due = []
        for key, wish in wanted.items():
            turn = self._turns.setdefault(key, _Turn())
            if not (turn.queued or turn.busy) and turn.due <= now and wish.vm_id not in self._spared:
                due.append((turn.due, key))
        for _, key in sorted(due):
            with self._lock:
                self._turns[key].queued = True
                self._waiting += 1
            self._pool.submit(self._work, wanted[key], self._turns[key])
        for host, replicas in list(self._replicas.items()):  # hosts come and go meanwhile
            self._sweep(host, replicas(), {vm_id for place, vm_id in wanted if place == host})

    def _sweep(self, host: str, replicas: Replicas, wanted: set[str]) -> None:
        for record in replicas.records():
            turn = self._turns.get((host, record.vm_id))
            if record.vm_id in wanted or record.taken or (turn and (turn.queued or turn.busy)):
                continue  # what a VM has is given back first; then it is swept
            try:
                replicas.remove(record.vm_id)
                self._turns.pop((host, record.vm_id), None)
                log.info("a warm replica was removed", vm_id=record.vm_id, host=host)
            except (Refused, HostBusy):
                pass  # a failover has just begun with it
            except LeewardError as error:
                log.warning("a warm replica is left behind", vm_id=record.vm_id, host=host, error=str(error))

    # --- one VM ---------------------------------------------------------------------------------------

    def _work(self, wish: ReplicaMessage, turn: _Turn) -> None:
        with self._lock:
            self._waiting -= 1
            turn.queued = False
            if self._over.is_set() or wish.vm_id in self._spared:
                return
            turn.busy = True
        try:
            self._advance(wish, turn)
            turn.failures, turn.trouble, turn.turn_s = 0, "", _TURN_S
            turn.due = time.monotonic() + pace(wish.rpo_s)
        except TurnOver:
            turn.due = time.monotonic()
        except Exception as error:
            turn.failures += 1
            turn.due = time.monotonic() + min(PACE_S * 2.0 ** (turn.failures - 1), _LONGEST_S)
            if isinstance(error, LeewardError):
                log.warning("a warm replica does not follow", vm=wish.vm_name, error=str(error))
                turn.trouble = str(error).replace(wish.vm_id, wish.vm_name)
            else:  # a bug of ours must not end the following silently
                log.exception("a warm replica does not follow", vm=wish.vm_name)
                turn.trouble = f"internal error: {error!r}"
        finally:
            with self._lock:
                turn.busy = False
                self._lock.notify_all()

    def _advance(self, wish: ReplicaMessage, turn: _Turn) -> None:
        if (replicas := self._replicas.get(wish.host)) is None:
            return  # the host has gone since
        limiter = Limiter(wish.bandwidth, sleep=self._over.wait)
        began, paid = time.monotonic(), 0

        def told(done: int, total: int, fetched: int) -> None:
            nonlocal paid
            turn.fraction = done / total if total else 1.0
            if fetched > paid:
                limiter.spend(fetched - paid)
                paid = fetched
            if self._over.is_set() or wish.vm_id in self._spared:
                raise TurnOver
            if self._waiting and time.monotonic() - began > turn.turn_s:
                turn.turn_s *= 2
                raise TurnOver

        replicas().advance(wish.vm_id, progress=told)

    @contextmanager
    def sparing(self, vm_id: str) -> Iterator[None]:
        """This VM's replica is left alone meanwhile: a failover needs it. One that is just being brought on is given
        a moment to leave."""
        with self._lock:
            self._spared[vm_id] = self._spared.get(vm_id, 0) + 1
            self._lock.wait_for(lambda: not self._busy(vm_id), _SPARE_S)
        try:
            yield
        finally:
            with self._lock:
                self._spared[vm_id] -= 1
                if not self._spared[vm_id]:
                    del self._spared[vm_id]

    def _busy(self, vm_id: str) -> bool:
        return any(turn.busy for (_, known), turn in list(self._turns.items()) if known == vm_id)

    def at_work(self, host: str) -> set[str]:
        """Ids of the VMs whose replicas at this host somebody is just seeing to, or will next."""
        turns = list(self._turns.items())
        return {vm_id for (place, vm_id), turn in turns if place == host and (turn.queued or turn.busy)}

    def forget(self, host: str) -> None:
        """It is none of this agent's hosts any more."""
        for key in [key for key in list(self._turns) if key[0] == host]:
            self._turns.pop(key, None)
        self._cache = (float("-inf"), {})

    # --- facts ----------------------------------------------------------------------------------------

    def reports(self) -> tuple[ReplicaReport, ...]:
        """Of all that is wished, and of what a failover's VM has."""
        told = self._recorded()
        for wish in self._wishes() or ():
            key = (wish.host, wish.vm_id)
            told[key] = self._noted(wish, told.get(key))
        return tuple(told.values())

    def _recorded(self) -> dict[tuple[str, str], ReplicaReport]:
        """As the records tell, not older than a second: reports are asked for all the time."""
        at, known = self._cache
        if time.monotonic() - at < _CACHE_S:
            return dict(known)
        found = {}
        for host, replicas in list(self._replicas.items()):
            with suppress(NotFound):  # no key yet
                sizes = replicas().sizes()
                for record in replicas().records():
                    size = sizes.get(record.taken or record.tag, 0)
                    found[host, record.vm_id] = report_of(record, host, size)
        self._cache = (time.monotonic(), found)
        return dict(found)

    def _noted(self, wish: ReplicaMessage, known: ReplicaReport | None) -> ReplicaReport:
        report = known or ReplicaReport(vm_id=wish.vm_id, host=wish.host, state=ReplicaState.COPYING)
        if wish.host not in self._replicas:
            why = "this host is not set up to run recovered VMs: give it a storage folder"
            return report.model_copy(update={"state": ReplicaState.ERROR, "reason": why})
        turn = self._turns.get((wish.host, wish.vm_id))
        if turn is None or report.state is ReplicaState.TAKEN:
            return report
        if turn.trouble:
            state = ReplicaState.BEHIND if report.point else ReplicaState.ERROR
            return report.model_copy(update={"state": state, "reason": turn.trouble})
        fraction = 1.0 if report.point else round(turn.fraction, 3)
        return report.model_copy(update={"fraction": fraction})


def report_of(record: Record, host: str, size: int) -> ReplicaReport:
    """As its record alone tells. Pure."""
    state = ReplicaState.TAKEN if record.taken else ReplicaState.WARM if record.point else ReplicaState.COPYING
    return ReplicaReport(
        vm_id=record.vm_id,
        host=host,
        state=state,
        point=record.point,
        time=utc(record.time_ns) if record.point else "",
        epoch=record.epoch,
        moved_to=record.moved_to,
        bytes=size,
        fraction=1.0 if record.point else 0.0,
    )
