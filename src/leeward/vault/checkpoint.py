"""Map checkpoints: a MapState as bytes, and the recovery points since the previous checkpoint.

They make opening a long log cheap and are an accelerator only: with every map lost, the log alone gives the same.
Except for those that a horizon rests on: pruning has deleted the log that they were made from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leeward.domain.errors import Damaged
from leeward.domain.points import RecoveryPoint
from leeward.domain.vm import Consistency, Disk, FirmwareState
from leeward.vault.firmware import firmware_info, firmware_of
from leeward.vault.folding import Passed
from leeward.vault.format import HASH_SIZE
from leeward.vault.index import DiskMap, MapState, ObjectRef, ObjectTable
from leeward.vault.marks import mark_info, mark_of, marks_info

# Which arrays a map consists of, and in what order.
LAYOUT = 2
_LOG_ENTRY = np.uint64(2**64 - 1)  # in the array of part numbers: the object is a log entry


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """prev_map: seq of the map before (0 = none); points: those in (prev_map, state.seq], ascending; passed: what was
    passed over by an epoch in there; unread: entries in there that could not be read, and may be of either kind."""

    state: MapState
    prev_map: int
    points: list[RecoveryPoint]
    passed: list[Passed] = field(default_factory=list)
    unread: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Listing:
    """The points of a checkpoint alone, with what was passed over and what could not be read."""

    prev_map: int
    points: list[RecoveryPoint]
    passed: list[Passed]
    unread: list[int]


def compacted(state: MapState) -> MapState:
    """The same state with an object table of only what is still referred to."""
    live = [disk.objects() for disk in state.maps.values()]
    numbers = np.unique(np.concatenate(live)) if live else np.empty(0, np.uint64)
    renumbered = np.zeros(len(state.objects) + 1, np.uint64)
    table = ObjectTable()
    for number in numbers.tolist():
        renumbered[number] = table.add(state.objects[number])
    maps = {name: disk.renumber(renumbered) for name, disk in state.maps.items()}
    return MapState(
        state.epoch,
        state.seq,
        state.head,
        state.disks,
        state.definition,
        state.tracking,
        state.firmware,
        state.last_point,
        maps,
        table,
    )


def encode(checkpoint: Checkpoint) -> tuple[dict[str, Any], bytes]:
    """(JSON info, byte stream). The state's object table should be compacted. The points end the stream."""
    state = checkpoint.state
    arrays: list[tuple[str, NDArray[Any]]] = []
    refs = [state.objects[number] for number in range(1, len(state.objects) + 1)]
    arrays.append(("seq", np.array([ref.seq for ref in refs], np.uint64)))
    parts = [int(_LOG_ENTRY) if ref.part < 0 else ref.part for ref in refs]
    arrays.append(("part", np.array(parts, np.uint64)))
    arrays.append(("digest", np.frombuffer(b"".join(ref.digest for ref in refs), np.uint8)))
    arrays.append(("blocks", np.array([ref.blocks for ref in refs], np.uint64)))
    for disk in state.disks:
        starts, counts, locations = state.maps[disk.name].encode()
        arrays += [("starts", starts), ("counts", counts), ("locations", locations)]
    layouts, rows = point_rows(checkpoint.points)
    arrays.append(("points", np.array(rows, np.int64).reshape(-1, 6)))
    info = {
        "layout": LAYOUT,
        "prev_map": checkpoint.prev_map,
        "epoch": state.epoch,
        "head": state.head.hex(),
        "disks": [[disk.name, disk.size] for disk in state.disks],
        "definition": state.definition,
        "tracking": state.tracking,
        "last_point": _point_info(state.last_point),
        "layouts": layouts,
        "lengths": [array.nbytes for _, array in arrays],
    }
    if state.firmware != FirmwareState():
        info["firmware"] = firmware_info(state.firmware)
    if marks := marks_info(checkpoint.points):
        info["marks"] = marks
    if checkpoint.passed:
        info["passed"] = [[one.follows, one.seq] for one in checkpoint.passed]
    if checkpoint.unread:
        info["unread"] = checkpoint.unread
    return info, b"".join(array.astype(array.dtype.newbyteorder("<")).tobytes() for _, array in arrays)


def decode(seq: int, info: dict[str, Any], stream: bytes) -> Checkpoint:
    if info.get("layout") != LAYOUT:
        # An accelerator that is of no use to us; the log has it all.
        raise Damaged("this map was made by another version of Leeward", subject=str(seq))
    pieces: list[memoryview] = []
    at = 0
    for length in info["lengths"]:
        pieces.append(memoryview(stream)[at : at + length])
        at += length
    seqs, parts = np.frombuffer(pieces[0], "<u8"), np.frombuffer(pieces[1], "<u8")
    digests, blocks = bytes(pieces[2]), np.frombuffer(pieces[3], "<u8").tolist()
    table = ObjectTable()
    for row, (number, part) in enumerate(zip(seqs.tolist(), parts.tolist(), strict=True)):
        digest = digests[row * HASH_SIZE : (row + 1) * HASH_SIZE]
        table.add(ObjectRef(number, -1 if part == int(_LOG_ENTRY) else part, digest, blocks[row]))
    disks = tuple(Disk(name, size) for name, size in info["disks"])
    maps = {}
    for index, disk in enumerate(disks):
        starts, counts, locations = (np.frombuffer(pieces[4 + index * 3 + array], "<u8") for array in range(3))
        maps[disk.name] = DiskMap.decode(starts, counts, locations)
    state = MapState(
        info["epoch"],
        seq,
        bytes.fromhex(info["head"]),
        disks,
        info["definition"],
        info["tracking"],
        firmware_of(info.get("firmware")),
        _point_of(info["last_point"]),
        maps,
        table,
    )
    listing = decode_points(info, stream[points_start(info) :])
    return Checkpoint(state, listing.prev_map, listing.points, listing.passed, listing.unread)


def points_start(info: dict[str, Any]) -> int:
    """Where in the stream the points are: from here to its end."""
    return int(sum(info["lengths"][:-1]))


def decode_points(info: dict[str, Any], tail: bytes) -> Listing:
    """tail: the stream from `points_start` on."""
    rows = np.frombuffer(tail, "<i8").reshape(-1, 6).tolist()
    points = points_of(info["layouts"], rows, info.get("marks", {}))
    passed = [Passed(follows, seq) for follows, seq in info.get("passed", [])]
    return Listing(info["prev_map"], points, passed, list(info.get("unread", [])))


def point_rows(points: Sequence[RecoveryPoint]) -> tuple[list[list[list[Any]]], list[list[int]]]:
    """(disk layouts, one row of six integers a point): how points are written."""
    layouts: list[list[list[Any]]] = []
    rows = []
    for point in points:
        layout = [[disk.name, disk.size] for disk in point.disks]
        if not layouts or layouts[-1] != layout:
            layouts.append(layout)
        app = int(point.consistency is Consistency.APP)
        rows.append([point.seq, point.epoch, point.time_ns, app, point.stored, len(layouts) - 1])
    return layouts, rows


def points_of(
    layouts: list[list[list[Any]]], rows: list[list[int]], marks: dict[str, dict[str, Any]]
) -> list[RecoveryPoint]:
    """The reverse of `point_rows`. marks: see `marks_info`."""
    disks = [tuple(Disk(name, size) for name, size in layout) for layout in layouts]
    return [
        RecoveryPoint(
            str(number),
            epoch,
            time_ns,
            Consistency.APP if app else Consistency.CRASH,
            disks[layout],
            stored,
            mark_of(marks.get(str(number))),
        )
        for number, epoch, time_ns, app, stored, layout in rows
    ]


def _point_info(point: RecoveryPoint | None) -> dict[str, Any] | None:
    if point is None:
        return None
    found = {
        "seq": point.seq,
        "epoch": point.epoch,
        "time_ns": point.time_ns,
        "consistency": point.consistency.value,
        "disks": [[disk.name, disk.size] for disk in point.disks],
        "stored": point.stored,
    }
    return found if point.mark is None else {**found, "mark": mark_info(point.mark)}


def _point_of(info: dict[str, Any] | None) -> RecoveryPoint | None:
    if info is None:
        return None
    disks = tuple(Disk(name, size) for name, size in info["disks"])
    consistency = Consistency(info["consistency"])
    mark = mark_of(info.get("mark"))
    return RecoveryPoint(str(info["seq"]), info["epoch"], info["time_ns"], consistency, disks, info["stored"], mark)
