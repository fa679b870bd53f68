"""The hashes of a disk's blocks, from the objects that hold the blocks."""

from __future__ import annotations

import threading
from collections import OrderedDict

from leeward.domain.blocks import U64
from leeward.domain.errors import Damaged
from leeward.vault.format import HASH_SIZE
from leeward.vault.history import History
from leeward.vault.index import SHIFT, STREAM_MASK, ObjectRef, ObjectTable

# Hash tables of objects kept in memory: 64 MiB hold those of 128 GiB of disk.
_CACHE = 64 << 20


class BlockHashes:
    """BLAKE3 of blocks by their location; a bounded cache. Thread-safe. Raises Damaged, StoreError.

    mending: a hash that cannot be read is like no other (b""), so that whoever compares by it stores the block anew.
    """

    def __init__(self, history: History, *, mending: bool = False) -> None:
        self._history = history
        self._mending = mending
        self._tables: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def of(self, objects: ObjectTable, locations: U64) -> list[bytes | None]:
        """The hash of the block at each location, None where it reads as zero."""
        result: list[bytes | None] = []
        number, table = -1, b""
        for location in locations.tolist():
            if location == 0:
                result.append(None)
                continue
            if location >> int(SHIFT) != number:
                number = location >> int(SHIFT)
                table = self._table(objects[number])
            at = (location & int(STREAM_MASK)) * HASH_SIZE
            result.append(table[at : at + HASH_SIZE])
        return result

    def _table(self, ref: ObjectRef) -> bytes:
        name = (ref.seq, ref.part)
        with self._lock:
            table = self._tables.get(name)
            if table is not None:
                self._tables.move_to_end(name)
                return table
        try:
            table = self._load(ref)
        except Damaged:
            if not self._mending:
                raise
            table = b""
        with self._lock:
            if name not in self._tables:
                self._tables[name] = table
                self._bytes += len(table)
            while self._bytes > _CACHE and len(self._tables) > 1:
                self._bytes -= len(self._tables.popitem(last=False)[1])
        return table

    def _load(self, ref: ObjectRef) -> bytes:
        if ref.part < 0:
            opened = self._history.open_log(ref.seq, ref.digest)
        else:
            opened = self._history.open_part(ref.seq, ref.part, ref.digest)
        return self._history.reader.meta(opened).hashes
