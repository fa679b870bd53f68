"""What came into a log after a point, read from the entries behind it alone: for whoever holds that point already.

A map of all blocks costs hundreds of small reads, whatever has changed; who looks every few seconds cannot pay that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from leeward.domain.blocks import Runs, block_count
from leeward.domain.errors import Damaged, ObjectNotFound
from leeward.domain.vm import FirmwareState
from leeward.vault import keyspace
from leeward.vault.folding import Entry, fold
from leeward.vault.format import Kind
from leeward.vault.history import History
from leeward.vault.image import PointImage
from leeward.vault.index import MapState

_CACHE_BYTES = 64 << 20
# Entries that are read at most: a map is written about this often.
_FAR = 256


@dataclass(frozen=True, slots=True)
class Since:
    """tail, epoch: of the log now. image: of its newest point, where only the blocks in `suspect` can be read, and
    all others look like zeros; None when no point came. suspect: disk → the blocks that may differ from the point
    before; what is zero now as zero runs."""

    tail: int
    epoch: int
    image: PointImage | None
    suspect: dict[str, Runs]


def grown(history: History, seq: int) -> bool:
    """Whether the log may have anything after entry `seq`. Two small requests."""
    return history.exists(seq + 1) or not history.exists(seq)


def since(history: History, seq: int, time_ns: int, definition: str, firmware: FirmwareState) -> Since | None:
    """time_ns, definition, firmware: of the point at `seq`, the latter two of which later ones need not repeat.

    None: that has been pruned or cannot be read, it is another one now (a vault that was set back uses its numbers
    again), so much came after it that a map costs less, or the log has gone on from an older one. Raises Damaged,
    StoreError.
    """
    try:
        opened = history.reader.open(keyspace.log(history.vm_id, seq))
    except (ObjectNotFound, Damaged):
        return None
    if opened.header.identity.time_ns != time_ns or opened.header.identity.kind is not Kind.COMMIT:
        return None
    tail = max(history.listed(seq), default=seq)
    if tail - seq > _FAR:
        return None
    entries = list(history.entries(seq, tail))
    if any(isinstance(entry, Entry) and entry.opened.header.identity.passes for entry in entries):
        return None  # what came after `seq` may not be what the log has gone on from
    state = MapState(opened.header.identity.epoch, seq, opened.digest, definition=definition, firmware=firmware)
    touched: dict[str, list[tuple[int, int]]] = {}
    for entry in entries:
        if isinstance(entry, Damaged):
            raise entry
        fold(state, entry)
        for disk, start, count in _runs(entry):
            touched.setdefault(disk, []).append((start, count))
    if state.last_point is None:
        return Since(state.seq, state.epoch, None, {})
    image = PointImage(history, state, state.last_point, _CACHE_BYTES)
    suspect = {name: _suspect(image, name, touched.get(name, [])) for name in image.disks}
    return Since(state.seq, state.epoch, image, suspect)


def _runs(entry: Entry) -> list[tuple[str, int, int]]:
    """(disk, start, count) of all that an entry with its parts tells of."""
    found = [(part.disks, part.runs) for part in entry.parts]
    if "disks" in entry.meta.info:
        found.append(([name for name, _ in entry.meta.info["disks"]], entry.meta.runs))
    return [(disks[disk], start, count) for disks, runs in found for disk, _, start, count in runs.tolist()]


def _suspect(image: PointImage, name: str, touched: list[tuple[int, int]]) -> Runs:
    mask = np.zeros(block_count(image.disks[name].size), np.bool_)
    for start, count in touched:
        mask[start : start + count] = True
    return Runs.where(mask, ~image.disks[name].runs().mask(len(mask)))
