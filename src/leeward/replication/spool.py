"""A bounded local spool for the times when the vault is away.

`SpoolingStore` is an ObjectStore made of two: the vault's store and a durable local one. A put that meets
StoreUnavailable goes to the spool, and so does every later one until the spool is drained, so that objects reach
the vault in the order in which they were made. Reads see both. The vault code above does not know of it: points made
meanwhile are in the log that this writer sees, tracking goes on, and they become real (for everybody else, and for
the actual RPO) when they are drained.

What was spooled in an epoch that is over can never become part of the log: once its writer reigns anew, `belong` sets
it aside. It stays on the disk until the next such time, for whoever wants to look at what a source wrote after it had
been taken over; nothing reads it here.

When the spool is full, StoreUnavailable comes through: the cycle is given up, its changes stay in the hypervisor's
tracking, and the next point that finds room contains them. Points are dropped then, never changes.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Iterator, Sequence

from leeward.domain.errors import (
    Fenced,
    ObjectExists,
    ObjectNotFound,
    StoreReadOnly,
    StoreUnavailable,
)
from leeward.ports.objects import Buffer, ObjectInfo, ObjectStore

# Objects of the spool's own: the epoch it belongs to, and up to which running number it is set aside.
_TAG, _ASIDE = "epoch/", "aside/"
# Spooled objects are kept as <running number, 16 digits>/<key>: one scan gives them back in the order of arrival.
_DIGITS = 16


class SpoolingStore:
    """`limit`: bytes the spool may hold. `drain` is called by whoever owns the store, regularly."""

    def __init__(self, remote: ObjectStore, spool: ObjectStore, limit: int) -> None:
        self._remote = remote
        self._spool = spool
        self._limit = limit
        self._lock = threading.RLock()
        self._draining = threading.Lock()
        self._entries: dict[str, tuple[str, int]] = {}  # key → (spool key, size), in order of arrival
        self._next = 1
        self._bytes = 0
        self._epoch = self._mark(_TAG)
        aside = self._mark(_ASIDE) or 0
        for info in spool.scan(""):
            number, _, key = info.key.partition("/")
            if not number.isdecimal():
                continue
            self._next = int(number) + 1
            if int(number) > aside:
                self._entries[key] = (info.key, info.size)
                self._bytes += info.size

    def _mark(self, prefix: str) -> int | None:
        found = [int(info.key.removeprefix(prefix)) for info in self._spool.scan(prefix)]
        return max(found, default=None)

    def belong(self, epoch: int) -> None:
        """What is spooled from now on is of this epoch; what is there of an earlier one is set aside."""
        with self._draining, self._lock:
            if self._epoch is not None and self._epoch >= epoch:
                return
            if self._epoch is not None and self._entries:
                self._set_aside()
            self._put_mark(_TAG, epoch)
            self._epoch = epoch

    def _set_aside(self) -> None:
        live = {name for name, _ in self._entries.values()}
        for info in list(self._spool.scan("")):
            if info.key[0].isdigit() and info.key not in live:
                self._spool.delete(info.key)  # set aside the time before
        # One small object decides, so that a crash leaves either all of it aside or none.
        self._put_mark(_ASIDE, self._next - 1)
        self._entries.clear()
        self._bytes = 0

    def _put_mark(self, prefix: str, number: int) -> None:
        try:
            self._spool.put(f"{prefix}{number}", [b"-"])
        except ObjectExists:
            return
        for info in list(self._spool.scan(prefix)):
            if int(info.key.removeprefix(prefix)) < number:
                self._spool.delete(info.key)

    @property
    def url(self) -> str:
        return self._remote.url

    @property
    def pending_bytes(self) -> int:
        return self._bytes

    def is_pending(self, key: str) -> bool:
        """True while `key` is only in the spool: nobody else can recover from it yet."""
        return key in self._entries

    def put(self, key: str, parts: Sequence[Buffer]) -> None:
        with self._lock:
            if key in self._entries:
                raise ObjectExists("the object exists already", subject=key)
            behind = bool(self._entries)
        if not behind:
            try:
                self._remote.put(key, parts)
            except StoreUnavailable as away:
                cause = away
            else:
                return
        else:
            cause = StoreUnavailable("the vault is away", subject=self.url)
        self._keep(key, parts, cause)

    def _keep(self, key: str, parts: Sequence[Buffer], cause: StoreUnavailable) -> None:
        size = sum(len(memoryview(part).cast("B")) for part in parts)
        with self._lock:
            if self._bytes + size > self._limit:
                raise StoreUnavailable(
                    f"{cause.message}, and the spool is full ({self._bytes} of {self._limit} bytes)",
                    subject=self.url,
                    hint="Changes stay tracked at the host and are sent when the vault is back",
                ) from cause
            name = f"{self._next:0{_DIGITS}d}/{key}"
            self._spool.put(name, parts)
            self._next += 1
            self._entries[key] = (name, size)
            self._bytes += size

    def drain(self) -> int:
        """Send what is spooled, oldest first; returns the objects sent.

        Raises StoreUnavailable when the vault is still away, Fenced when another writer took a place in the log
        meanwhile: then what is spooled can never become part of the log and stays aside for the operator.
        """
        sent = 0
        with self._draining:
            while True:
                with self._lock:
                    if not self._entries:
                        return sent
                    key, (name, size) = next(iter(self._entries.items()))
                data = self._spool.get(name)
                try:
                    self._remote.put(key, [data])
                except ObjectExists:
                    if self._remote.get(key) != data:
                        raise Fenced(
                            "another writer has taken this VM over while the vault was away",
                            subject=key,
                            hint="Points made meanwhile stay in the local spool",
                        ) from None
                # The object is in the vault: from here on a crash only means that it is offered once more.
                self._spool.delete(name)
                with self._lock:
                    del self._entries[key]
                    self._bytes -= size
                sent += 1

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
