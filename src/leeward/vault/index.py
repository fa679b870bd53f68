"""The map of a VM's disks: for every block, which object holds it and where. Arrays only, never a Python object each.

A location is a u64: object number << 32 | block in that object's stream. Object numbers begin at 1 and index the
object table, so location 0 means «reads as zeros». A disk is a dictionary of pages of 65,536 blocks (4 GiB of disk,
512 KiB of memory); an absent page is all zeros, so a sparse disk costs what it uses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from leeward.domain.blocks import U64, Bool, Runs, block_count
from leeward.domain.points import RecoveryPoint
from leeward.domain.vm import Disk, FirmwareState
from leeward.vault.segment import RUN_DTYPE

PAGE = 65536
SHIFT = np.uint64(32)
STREAM_MASK = np.uint64(2**32 - 1)


class DiskMap:
    """Locations of one disk's blocks."""

    def __init__(self) -> None:
        self._pages: dict[int, U64] = {}

    def copy(self) -> DiskMap:
        twin = DiskMap()
        twin._pages = {number: page.copy() for number, page in self._pages.items()}
        return twin

    def put(self, start: int, count: int, location: int) -> None:
        """Blocks start … start + count - 1 lie at `location`, `location` + 1, …"""
        while count:
            number, at = divmod(start, PAGE)
            take = min(count, PAGE - at)
            page = self._pages.get(number)
            if page is None:
                page = self._pages[number] = np.zeros(PAGE, np.uint64)
            page[at : at + take] = np.arange(location, location + take, dtype=np.uint64)
            start, count, location = start + take, count - take, location + take

    def zero(self, start: int, count: int) -> None:
        while count:
            number, at = divmod(start, PAGE)
            take = min(count, PAGE - at)
            if take == PAGE:
                self._pages.pop(number, None)
            elif number in self._pages:
                self._pages[number][at : at + take] = 0
            start, count = start + take, count - take

    def cut(self, size: int) -> None:
        """Forget what lies beyond a disk of `size` bytes, so that growing again shows zeros."""
        blocks = block_count(size)
        number, at = divmod(blocks, PAGE)
        for page in [page for page in self._pages if page > number or (page == number and at == 0)]:
            del self._pages[page]
        if number in self._pages:
            self._pages[number][at:] = 0

    def locate(self, start: int, count: int) -> U64:
        """Locations of `count` blocks from `start` on."""
        number, at = divmod(start, PAGE)
        if at + count <= PAGE:
            page = self._pages.get(number)
            return np.zeros(count, np.uint64) if page is None else page[at : at + count]
        result = np.zeros(count, np.uint64)
        done = 0
        while done < count:
            number, at = divmod(start + done, PAGE)
            take = min(count - done, PAGE - at)
            page = self._pages.get(number)
            if page is not None:
                result[done : done + take] = page[at : at + take]
            done += take
        return result

    def encode(self) -> tuple[U64, U64, U64]:
        """(start, count, location) of maximal runs whose locations follow each other, ascending by start."""
        starts, counts, locations = [], [], []
        for number in sorted(self._pages):
            page = self._pages[number]
            used = np.flatnonzero(page)
            if not len(used):
                continue
            values = page[used]
            breaks = np.flatnonzero((np.diff(used) != 1) | (np.diff(values) != 1)) + 1
            first = np.concatenate(([0], breaks))
            starts.append(used[first].astype(np.uint64) + np.uint64(number * PAGE))
            counts.append(np.diff(np.concatenate((first, [len(used)]))).astype(np.uint64))
            locations.append(values[first])
        if not starts:
            nothing = np.empty(0, np.uint64)
            return nothing, nothing, nothing
        return np.concatenate(starts), np.concatenate(counts), np.concatenate(locations)

    @staticmethod
    def decode(starts: U64, counts: U64, locations: U64) -> DiskMap:
        disk = DiskMap()
        if not len(starts):
            return disk
        # A run never crosses a page (see encode), so each page is made by itself: expanding all runs of a large disk
        # at once would take many times the memory of the map.
        pages = starts // np.uint64(PAGE)
        edges = [0, *(np.flatnonzero(np.diff(pages)) + 1).tolist(), len(starts)]
        for lo, hi in pairwise(edges):
            times = counts[lo:hi].astype(np.int64)  # numpy repeats by signed counts only
            ends = np.cumsum(times)
            inner = np.arange(int(ends[-1]), dtype=np.int64) - np.repeat(ends - times, times)
            within = (starts[lo:hi] % np.uint64(PAGE)).astype(np.int64)
            page = np.zeros(PAGE, np.uint64)
            page[np.repeat(within, times) + inner] = np.repeat(locations[lo:hi], times) + inner.astype(np.uint64)
            disk._pages[int(pages[lo])] = page
        return disk

    def runs(self) -> Runs:
        """Where there is data, as maximal runs."""
        starts, counts, _ = self.encode()
        if not len(starts):
            return Runs.empty()
        ends = starts + counts
        breaks = np.flatnonzero(starts[1:] != ends[:-1]) + 1
        first = np.concatenate(([0], breaks))
        last = np.concatenate((breaks, [len(starts)])) - 1
        return Runs(starts[first], ends[last] - starts[first], np.zeros(len(first), np.bool_))

    def objects(self) -> NDArray[np.uint64]:
        """Numbers of all objects that hold a block of this disk."""
        found = [np.unique(page >> SHIFT) for page in self._pages.values()]
        every = np.unique(np.concatenate(found)) if found else np.empty(0, np.uint64)
        return every[every > 0]

    def pages(self) -> Iterator[U64]:
        """The arrays of locations that the disk is made of; not to be changed."""
        return iter(self._pages.values())

    def inside(self, objects: Sequence[int]) -> U64:
        """Numbers of all blocks that lie in one of these objects, ascending."""
        wanted = np.array(objects, np.uint64)
        found = [
            np.flatnonzero(np.isin(self._pages[number] >> SHIFT, wanted)).astype(np.uint64) + np.uint64(number * PAGE)
            for number in sorted(self._pages)
        ]
        return np.concatenate(found) if found else np.empty(0, np.uint64)

    def find(self, objects: Sequence[int]) -> tuple[int, int] | None:
        """(block, location) of the first block that lies in one of these objects."""
        wanted = np.array(objects, np.uint64)
        for number in sorted(self._pages):
            page = self._pages[number]
            hits = np.flatnonzero(np.isin(page >> SHIFT, wanted))
            if len(hits):
                return number * PAGE + int(hits[0]), int(page[hits[0]])
        return None

    def unlike(self, other: DiskMap, numbers: NDArray[np.uint64]) -> Runs:
        """Blocks that do not lie where `other` has them; zero runs where this map has nothing.

        numbers: other's object number n is our numbers[n]. A block that was only moved is named as well.
        """
        found, zeros = [], []
        for number in sorted(self._pages.keys() | other._pages.keys()):
            mine, theirs = self._pages.get(number, _NO_PAGE), other._pages.get(number, _NO_PAGE)
            theirs = np.where(theirs == 0, theirs, (numbers[theirs >> SHIFT] << SHIFT) | (theirs & STREAM_MASK))
            blocks = np.flatnonzero(mine != theirs)
            found.append(blocks.astype(np.uint64) + np.uint64(number * PAGE))
            zeros.append(mine[blocks] == 0)
        if not found:
            return Runs.empty()
        return _grouped(np.concatenate(found), np.concatenate(zeros))

    def renumber(self, new: NDArray[np.uint64]) -> DiskMap:
        """The same map with object number n replaced by new[n]."""
        twin = DiskMap()
        for number, page in self._pages.items():
            moved = (new[page >> SHIFT] << SHIFT) | (page & STREAM_MASK)
            moved[page == 0] = 0
            twin._pages[number] = moved
        return twin


_NO_PAGE = np.zeros(PAGE, np.uint64)


def _grouped(blocks: U64, zero: Bool) -> Runs:
    """Ascending block numbers as maximal runs of one kind."""
    if not len(blocks):
        return Runs.empty()
    breaks = np.flatnonzero((np.diff(blocks) != 1) | (zero[1:] != zero[:-1])) + 1
    first = np.concatenate(([0], breaks))
    counts = np.diff(np.concatenate((first, [len(blocks)]))).astype(np.uint64)
    return Runs(blocks[first], counts, zero[first])


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """An object by what the log calls it. part: -1 for a log entry, else the part's number. blocks: in its stream."""

    seq: int
    part: int
    digest: bytes
    blocks: int = 0


class ObjectTable:
    """Object number → ObjectRef; grows, never shrinks."""

    def __init__(self) -> None:
        self._refs: list[ObjectRef | None] = [None]

    def __len__(self) -> int:
        return len(self._refs) - 1

    def __iter__(self) -> Iterator[ObjectRef]:
        return (ref for ref in self._refs if ref is not None)

    def add(self, ref: ObjectRef) -> int:
        self._refs.append(ref)
        return len(self._refs) - 1

    def __getitem__(self, number: int) -> ObjectRef:
        ref = self._refs[number]
        if ref is None:
            raise KeyError(number)
        return ref

    def numbers_in(self, other: ObjectTable) -> NDArray[np.uint64]:
        """Object number here → number in `other`; for objects that it does not have, numbers that it does not use."""
        theirs = {(ref.seq, ref.part): number for number, ref in enumerate(other, 1)}
        strange = len(other) + 1
        return np.array([0, *(theirs.get((ref.seq, ref.part), strange + n) for n, ref in enumerate(self))], np.uint64)

    def copy(self) -> ObjectTable:
        twin = ObjectTable()
        twin._refs = list(self._refs)
        return twin


@dataclass(slots=True)
class MapState:
    """A VM as of one log entry. head: hash of that entry's header (zeros before the first)."""

    epoch: int = 0
    seq: int = 0
    head: bytes = bytes(32)
    disks: tuple[Disk, ...] = ()
    definition: str = ""
    tracking: str = ""
    firmware: FirmwareState = field(default_factory=FirmwareState)
    last_point: RecoveryPoint | None = None
    maps: dict[str, DiskMap] = field(default_factory=dict)
    objects: ObjectTable = field(default_factory=ObjectTable)

    def copy(self) -> MapState:
        return MapState(
            self.epoch,
            self.seq,
            self.head,
            self.disks,
            self.definition,
            self.tracking,
            self.firmware,
            self.last_point,
            {name: disk.copy() for name, disk in self.maps.items()},
            self.objects.copy(),
        )

    def apply_runs(self, ref: ObjectRef, disks: list[str], runs: NDArray[np.void]) -> None:
        """Fold one object's runs: its stream blocks become the newest content of the blocks that it names."""
        total = int(runs["count"][runs["zero"] == 0].sum())
        number = self.objects.add(replace(ref, blocks=total))
        stream = 0
        for disk, zero, start, count in runs.tolist():
            target = self.maps.setdefault(disks[disk], DiskMap())
            if zero:
                target.zero(start, count)
            else:
                target.put(start, count, number << 32 | stream)
                stream += count

    def set_disks(self, disks: tuple[Disk, ...]) -> None:
        """Sizes as of this commit. A disk that is gone takes its content with it."""
        self.disks = disks
        sizes = {disk.name: disk.size for disk in disks}
        self.maps = {name: disk for name, disk in self.maps.items() if name in sizes}
        for name, size in sizes.items():
            self.maps.setdefault(name, DiskMap()).cut(size)


def run_rows(pieces: list[tuple[int, int, int, int]]) -> NDArray[np.void]:
    """RUN_DTYPE rows from (disk, zero, start, count) tuples."""
    return np.array(pieces, RUN_DTYPE)
