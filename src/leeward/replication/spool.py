"""A bounded local spool for the times when the vault is away, full or read-only.

`SpoolingStore` is an ObjectStore made of two: the vault's store and a durable local one. A put that the vault does
not take now goes to the spool, and so does every later one until the spool is drained, so that objects reach the
vault in the order in which they were made. Reads see both. The vault code above does not know of it: points made
meanwhile are in the log that this writer sees, tracking goes on, and they become real (for everybody else, and for
the actual RPO) when they are drained.

What was spooled in an epoch that is over can never become part of the log: it is set aside as soon as that is found
out, or at the latest before this host's next epoch begins (`begin_anew`, or `belong` where somebody has begun it for
this host), whose writer must not trip over it.

When the spool is full, SpoolFull comes through: the cycle is given up, its changes stay in the hypervisor's tracking,
and the next point that finds room contains them. Points are dropped then, never changes.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from leeward.domain.errors import (
    Fenced,
    ObjectExists,
    ObjectNotFound,
    SpoolFull,
    StoreError,
    StoreFull,
    StoreReadOnly,
    StoreUnavailable,
)
from leeward.ports.objects import Buffer, ObjectInfo, ObjectStore

# An object of the spool's own: the epoch that its content belongs to.
_TAG = "epoch/"
# Spooled objects are kept as <running number, 16 digits>/<key>: one scan gives them back in the order of arrival.
_DIGITS = 16
# What keeps the vault from taking an object now, and may be over later.
_OUTAGES = (StoreUnavailable, StoreFull, StoreReadOnly)


class SpoolingStore:
    """Thread-safe: one thread may drain while others put and read.

    limit: bytes the spool may hold. set_aside: moves the spool's content out of the way of later runs, for good.
    """

    def __init__(
        self, remote: ObjectStore, spool: ObjectStore, limit: int, set_aside: Callable[[], None] = lambda: None
    ) -> None:
        self._remote = remote
        self._spool = spool
        self._limit = limit
        self._set_aside = set_aside
        self._fenced: Fenced | None = None
        self._trouble = ""
        self._lock = threading.RLock()
        self._draining = threading.Lock()
        self._entries: dict[str, tuple[str, int]] = {}  # key → (spool key, size), in order of arrival
        self._next = 1
        self._bytes = 0
        self._epoch: int | None = None
        for info in spool.scan(""):
            number, _, key = info.key.partition("/")
            if info.key.startswith(_TAG):
                self._epoch = max(int(key), self._epoch or 0)
                continue
            self._entries[key] = (info.key, info.size)
            self._next = int(number) + 1
            self._bytes += info.size

    def belong(self, epoch: int) -> None:
        """What is spooled from now on is of this epoch; what is there of an earlier one is set aside."""
        with self._draining, self._lock:
            if self._epoch is not None and self._epoch >= epoch:
                return
            if self._epoch is not None:
                self._leave_behind()
            with suppress(ObjectExists):
                self._spool.put(f"{_TAG}{epoch}", [b"-"])
            for info in list(self._spool.scan(_TAG)):
                if int(info.key.removeprefix(_TAG)) < epoch:
                    self._spool.delete(info.key)
            self._epoch = epoch

    def begin_anew(self) -> None:
        """An epoch is about to be begun through this store: all that is here is of one that is over, and goes first.

        Not afterwards by `belong`: where the vault takes nothing, the entry that begins the epoch is spooled itself.
        """
        with self._draining, self._lock:
            self._leave_behind()
            for info in list(self._spool.scan(_TAG)):
                self._spool.delete(info.key)
            self._epoch = None

    def _leave_behind(self) -> None:
        if self._entries:
            self._set_aside()
            self._entries.clear()
            self._bytes = 0

    @property
    def url(self) -> str:
        return self._remote.url

    @property
    def pending_bytes(self) -> int:
        return self._bytes

    @property
    def trouble(self) -> str:
        """Why what is in the spool cannot be sent now; "" when it can, or when nothing is."""
        return self._trouble if self._entries else ""

    def is_pending(self, key: str) -> bool:
        """True while `key` is only in the spool: nobody else can recover from it yet."""
        return key in self._entries

    def put(self, key: str, parts: Sequence[Buffer]) -> None:
        with self._lock:
            if self._fenced:
                raise self._fenced
            if key in self._entries:
                raise ObjectExists("the object exists already", subject=key)
            behind = bool(self._entries)
        if not behind:
            try:
                self._remote.put(key, parts)
            except _OUTAGES as outage:
                self._trouble = str(outage)
            else:
                return
        self._keep(key, parts, sure=behind)

    def _keep(self, key: str, parts: Sequence[Buffer], *, sure: bool) -> None:
        """sure: the vault has not been tried, so that it certainly has nothing of this object."""
        size = sum(len(memoryview(part).cast("B")) for part in parts)
        with self._lock:
            if self._bytes + size > self._limit:
                kind = SpoolFull if sure else StoreUnavailable
                raise kind(
                    f"the spool is full ({self._bytes} of {self._limit} bytes wait) while the vault takes nothing",
                    subject=self.url,
                    hint=f"Changes stay tracked at the host and are sent later. The vault's trouble: {self._trouble}",
                )
            name = f"{self._next:0{_DIGITS}d}/{key}"
            try:
                self._spool.put(name, parts)
            except StoreError as error:
                raise StoreUnavailable(
                    f"the spool cannot keep what the vault does not take: {error.message}",
                    subject=self._spool.url,
                    hint=f"{error.hint}. The vault's trouble: {self._trouble}",
                ) from error
            self._next += 1
            self._entries[key] = (name, size)
            self._bytes += size

    def drain(self) -> int:
        """Send all that is spooled; returns the objects sent. Raises as `send_next`."""
        sent = 0
        while self.send_next() is not None:
            sent += 1
        return sent

    def send_next(self) -> int | None:
        """Send the oldest object of the spool; its size, or None when there is none.

        Raises StoreError when the vault still does not take it; Fenced when another writer took its place in the log
        meanwhile: then what is spooled can never become part of the log, it is set aside for the operator, and this
        store takes no more puts.
        """
        with self._draining:
            with self._lock:
                if self._fenced:
                    raise self._fenced
                if not self._entries:
                    return None
                key, (name, size) = next(iter(self._entries.items()))
            try:
                self._send(key, name)
            except StoreError as error:
                self._trouble = str(error)
                raise
            with self._lock:
                del self._entries[key]
                self._bytes -= size
            self._trouble = ""
            return size

    def _send(self, key: str, name: str) -> None:
        try:
            data = self._spool.get(name)
        except ObjectNotFound:
            self._remote.size(key)  # a predecessor whose last put was still under way has sent it
            return
        try:
            self._remote.put(key, [data])
        except ObjectExists:
            if self._remote.get(key) != data:
                raise self._fence(key) from None
        # The object is in the vault: from here on a crash only means that it is offered once more.
        self._spool.delete(name)

    def check_place(self, prefix: str) -> None:
        """Raises Fenced, as `send_next`, when the place of the oldest object below `prefix` that waits is taken.

        For a vault that can be read but takes nothing from us: sending would never find out. Raises StoreError.
        """
        with self._lock:
            mine = next(((key, name) for key, (name, _) in self._entries.items() if key.startswith(prefix)), None)
        if mine is None:
            return
        key, name = mine
        try:
            self._remote.size(key)
        except ObjectNotFound:
            return
        if self._remote.get(key) != self._spool.get(name):
            raise self._fence(key)

    def _fence(self, key: str) -> Fenced:
        """From now on nothing is put: our writer's tail is not the log's, and a gap in the log would be damage."""
        error = Fenced(
            "another writer has taken this VM over while the vault could not be reached",
            subject=key,
            hint="Points made meanwhile were set aside beside the local spool; see where the VM runs",
        )
        with self._lock:
            self._fenced = error
        self._set_aside()
        return error

    def get(self, key: str) -> bytes:
        name = self._spooled(key)
        if name is not None:
            try:
                return self._spool.get(name)
            except ObjectNotFound:
                pass  # drained between the look and the read: it is in the vault now
        return self._remote.get(key)

    def get_range(self, key: str, start: int, length: int) -> bytes:
        name = self._spooled(key)
        if name is not None:
            try:
                return self._spool.get_range(name, start, length)
            except ObjectNotFound:
                pass  # as in get
        return self._remote.get_range(key, start, length)

    def size(self, key: str) -> int:
        with self._lock:
            if key in self._entries:
                return self._entries[key][1]
        return self._remote.size(key)

    def _spooled(self, key: str) -> str | None:
        with self._lock:
            entry = self._entries.get(key)
            return entry[0] if entry else None

    def scan(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        with self._lock:
            mine = sorted(
                ObjectInfo(key, size)
                for key, (_, size) in self._entries.items()
                if key.startswith(prefix) and key > start_after
            )
        last = ""
        for info in heapq.merge(mine, self._remote.scan(prefix, start_after)):
            if info.key != last:
                yield info
            last = info.key

    def folders(self, prefix: str) -> list[str]:
        with self._lock:
            mine = {
                key[len(prefix) :].split("/", 1)[0]
                for key in self._entries
                if key.startswith(prefix) and "/" in key[len(prefix) :]
            }
        return sorted(mine | set(self._remote.folders(prefix)))

    def delete(self, key: str) -> None:
        with self._lock:
            if key in self._entries:
                raise StoreReadOnly("a spooled object cannot be deleted before it is in the vault", subject=key)
        self._remote.delete(key)
