"""Pruning one VM's log: what may go is planned first, as a value to print and test, then done in a safe order.

1. Maps that the kept old points and the new base still lack are written.
2. Every one of these maps is read back and compared with what the log itself gives; whatever they name must be there.
3. A new horizon is put. From now on what is to go is not reachable any more.
4. Pins are read once more: a point that somebody pinned meanwhile calls everything off.
5. What no kept map needs is deleted. Killed in between, the next run goes on here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from leeward.domain.consistency import kept_together
from leeward.domain.errors import Damaged, ObjectExists, ObjectRetained, Refused, StoreError, StoreUnavailable
from leeward.domain.points import RecoveryPoint
from leeward.domain.retention import Retention, kept
from leeward.ports.objects import ObjectInfo
from leeward.vault import checkpoint, keyspace
from leeward.vault.checkpoint import Checkpoint
from leeward.vault.folding import Passed, Span
from leeward.vault.format import Identity, Kind
from leeward.vault.history import History
from leeward.vault.horizon import Horizon
from leeward.vault.index import MapState
from leeward.vault.maps import put_map
from leeward.vault.reigning import last_move
from leeward.vault.segment import Sealer

# The base moves to a map that exists already unless more than this share of the window would stay too long for it.
_ROUNDING = 1 / 8
# A folder's objects are tried in the order in which they were made: once so many in a row are kept by the store for a
# time, the rest, which it keeps for longer, is not asked for one by one.
_REFUSALS = 8
# Named instants at which the crash tests kill the process; each is just after what it names.
STEPS = ("maps-written", "maps-verified", "horizon-put", "deleted-some", "deleted")


@dataclass(frozen=True, slots=True)
class PrunePlan:
    """before: the horizon at planning. after: the one to put; the same when only leftovers are to be deleted.

    drop: points that go. maps: sequence numbers that need a map first. delete: objects that go. span: of all the log.
    """

    vm_id: str
    before: Horizon
    after: Horizon
    drop: tuple[RecoveryPoint, ...]
    maps: tuple[int, ...]
    delete: tuple[ObjectInfo, ...]
    span: Span

    @property
    def bytes(self) -> int:
        return sum(info.size for info in self.delete)

    @property
    def empty(self) -> bool:
        return self.before == self.after and not self.delete


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was done. locked: objects that the store would not delete yet; a later run tries again. until_ns: before
    this time (UTC) it will not succeed for any of those of which the store said so; None: it said nothing."""

    points: int
    objects: int
    bytes: int
    locked: int
    until_ns: int | None = None


def plan(
    history: History,
    retention: Retention,
    pinned: Collection[str],
    now_ns: int | None = None,
    together: Mapping[str, tuple[History, Retention]] | None = None,
) -> PrunePlan:
    """What pruning by `retention` would do. pinned: ids of points that are in use. Reads, never writes.

    together: the other VMs of its consistency group, by id: points of one mark stay in all of them or in none.
    """
    before = history.horizon()
    span = history.span()
    points = span.shown()
    keep = _keep(history.vm_id, points, retention, pinned, now_ns or time.time_ns(), together or {})
    maps = history.maps()
    passed = [one for one in span.passed if one.seq > before.base]
    base = _whole(_base(points, keep, maps, before, retention), passed, pinned)
    unread = {seq for seq in span.unread if seq > base and not span.hides(seq)}
    if base > before.base and any(_may_go_back(history, seq) for seq in unread):
        base = before.base
    after = before
    drop: tuple[RecoveryPoint, ...] = ()
    if base > before.base or any(point.id not in keep for point in before.points):
        old = [point for point in points if point.seq <= base]
        drop = tuple(point for point in old if point.id not in keep)
        left = tuple(point for point in old if point.id in keep)
        after = Horizon(before.number + 1, base, 0, b"", left, _move(history))
    live: set[str] = set()
    for seq in _anchors(after):
        state = history.state_in(before, seq)
        live |= {keyspace.map_(history.vm_id, seq), *_named(history.vm_id, state)}
        if seq == after.base:
            after = replace(after, epoch=state.epoch, head=state.head)
    missing = tuple(seq for seq in _anchors(after) if seq not in maps)
    return PrunePlan(history.vm_id, before, after, drop, missing, _unneeded(history, after, live), span)


def _keep(
    vm_id: str,
    points: Sequence[RecoveryPoint],
    retention: Retention,
    pinned: Collection[str],
    now_ns: int,
    together: Mapping[str, tuple[History, Retention]],
) -> set[str]:
    """Ids of the points that stay."""
    if not together:
        return {point.id for point in kept(points, retention, now_ns, pinned)}
    all_points = {other: theirs.points() for other, (theirs, _) in together.items()} | {vm_id: points}
    rules = {other: by for other, (_, by) in together.items()} | {vm_id: retention}
    marks = kept_together(all_points, rules, now_ns)
    marked = [point.id for point in points if point.mark and point.mark.id in marks]
    return {point.id for point in kept(points, retention, now_ns, [*pinned, *marked], marked)}


def _base(
    points: Sequence[RecoveryPoint], keep: Collection[str], maps: dict[int, int], before: Horizon, by: Retention
) -> int:
    """Where the whole log is to begin: nothing that is dropped lies after it."""
    last_dropped = max((index for index, point in enumerate(points) if point.id not in keep), default=-1)
    if last_dropped < 0:
        return before.base
    first = points[last_dropped + 1]
    ready = max((seq for seq in maps if before.base <= seq <= first.seq), default=0)
    ahead = next((point for point in points if point.seq > ready), first)
    if ready and (first.time_ns - ahead.time_ns) / 1e9 <= by.window_s * _ROUNDING:
        return ready
    return first.seq


def _whole(base: int, passed: Collection[Passed], pinned: Collection[str]) -> int:
    """As far as `base`, but not to where an epoch that stays goes on from what would go, nor past what was put back
    and is just being read."""
    read = [int(name) for name in pinned if name.isdecimal()]
    for one in sorted(passed, key=lambda one: one.seq, reverse=True):
        if one.covers(base) or (base >= one.seq and any(map(one.covers, read))):
            base = one.follows
    return base


def _may_go_back(history: History, unread: int) -> bool:
    """Whether an entry that cannot be read may be an epoch that goes on from an older one than the one before it:
    whatever is written in such an epoch or after it is of one with no smaller number than the entry's own."""
    certain = (history.certain_epoch(seq) for seq in range(history.tail(), unread - 1, -1))
    newest = next((epoch for epoch in certain if epoch is not None), None)
    return newest is None or newest >= unread


def _move(history: History) -> dict[str, Any]:
    found = last_move(history)
    return {"epoch": found.epoch, "info": found.info, "time_ns": found.time_ns} if found else {}


def _anchors(horizon: Horizon) -> list[int]:
    """Sequence numbers whose maps the horizon rests on, ascending."""
    return sorted({point.seq for point in horizon.points} | ({horizon.base} if horizon.base else set()))


def _unneeded(history: History, horizon: Horizon, live: set[str]) -> tuple[ObjectInfo, ...]:
    """Objects up to the base that are not among `live` keys."""
    if not horizon.base:
        return ()
    vm_id, store = history.vm_id, history.reader.store
    end = keyspace.part(vm_id, horizon.base + 1, 0)
    found = [
        info
        for seq, info in keyspace.numbered(store.scan(f"vm/{vm_id}/log/"))
        if seq <= horizon.base and info.key not in live
    ]
    found += [info for _, info in keyspace.numbered(store.scan(f"vm/{vm_id}/part/")) if info.key < end]
    found += [info for seq, info in keyspace.numbered(store.scan(f"vm/{vm_id}/map/")) if seq < horizon.base]
    found += [info for n, info in keyspace.numbered(store.scan(f"vm/{vm_id}/horizon/")) if n < horizon.number - 1]
    return tuple(info for info in found if info.key not in live)


def _named(vm_id: str, state: MapState) -> set[str]:
    """Keys of all objects that hold a block of this state."""
    disks = [disk.objects() for disk in state.maps.values()]
    numbers = np.unique(np.concatenate(disks)).tolist() if disks else []
    return {keyspace.of_ref(vm_id, state.objects[n].seq, state.objects[n].part) for n in numbers}


def execute(
    history: History,
    plan: PrunePlan,
    pinned: Callable[[], Collection[str]],
    on_step: Callable[[str], None] = lambda step: None,
) -> Pruned:
    """Carry a plan out. pinned: reads the pins anew.

    Raises Refused when a point that was to go is pinned or another process pruned meanwhile (nothing is deleted then;
    plan again), Damaged when what is to stay is not whole.
    """
    _current(history, plan)
    if plan.after != plan.before:
        try:
            _anchor(history, plan, on_step)
        except Damaged:
            _current(history, plan)  # what was missed may be just what somebody else has pruned
            raise
        _put_horizon(history, plan.after)
        on_step("horizon-put")
    _recheck(history, plan, pinned())
    return _delete(history, plan, on_step)


def _current(history: History, plan: PrunePlan) -> None:
    if history.horizon().number != plan.before.number:
        raise Refused(
            "another process has pruned this VM's log meanwhile",
            subject=history.vm_id,
            hint="Run `leeward vault prune` again for what is left",
        )


def _anchor(history: History, plan: PrunePlan, on_step: Callable[[str], None]) -> None:
    """Everything that the new horizon rests on, written and verified."""
    for seq in plan.maps:
        _write_map(history, plan, seq)
    on_step("maps-written")
    there = _data(history)
    for seq in _anchors(plan.after):
        _verify(history, plan.before, seq, there)
    on_step("maps-verified")


def _write_map(history: History, plan: PrunePlan, seq: int) -> None:
    state = checkpoint.compacted(history.state_in(plan.before, seq))
    earlier = max((number for number in history.maps() if number < seq), default=0)
    points = [point for point in (*plan.after.points, *plan.drop) if earlier < point.seq <= seq]
    points.sort(key=lambda point: point.seq)
    passed = [one for one in plan.span.passed if earlier < one.seq <= seq]
    unread = [one for one in plan.span.unread if max(earlier, plan.before.base) < one <= seq]
    put_map(history, Checkpoint(state, earlier, points, passed, unread))


def _data(history: History) -> set[str]:
    """Keys of everything that can hold data."""
    store = history.reader.store
    return {info.key for folder in ("log", "part") for info in store.scan(f"vm/{history.vm_id}/{folder}/")}


def _verify(history: History, before: Horizon, seq: int, there: set[str]) -> None:
    """The map as it stands in the store against the log; and all that it names must be there."""
    stored = history.checkpoint(seq).state
    key = keyspace.map_(history.vm_id, seq)
    if seq > before.base:
        replayed = history.state_in(before, seq, before_map=True)
        if not _same(stored, replayed):
            raise Damaged("this map does not say what the log says; nothing was pruned", subject=key)
    lost = _named(history.vm_id, stored) - there
    if lost:
        raise Damaged(f"a point that is to be kept needs {min(lost)}, which is missing", subject=key)


def _same(one: MapState, other: MapState) -> bool:
    if _outline(one) != _outline(other):
        return False
    one, other = checkpoint.compacted(one), checkpoint.compacted(other)
    # Object numbers depend on the way a state was come by: compare what they stand for.
    names = {ref: number for number, ref in enumerate(one.objects, 1)}
    if {*one.objects} != {*other.objects}:
        return False
    translation = np.array([0, *(names[ref] for ref in other.objects)], np.uint64)
    for disk in one.disks:
        ours, theirs = one.maps[disk.name].encode(), other.maps[disk.name].renumber(translation).encode()
        if not all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True)):
            return False
    return True


def _outline(state: MapState) -> tuple[object, ...]:
    return state.epoch, state.seq, state.head, state.disks, state.definition, state.firmware


def _put_horizon(history: History, horizon: Horizon) -> None:
    reader = history.reader
    identity = Identity(
        Kind.HORIZON,
        reader.keys.vault_id,
        history.vm_uuid,
        horizon.epoch,
        horizon.base,
        horizon.number,
        time.time_ns(),
    )
    sealer = Sealer.make(reader.keys, history.vm_uuid, horizon.epoch, horizon.base)
    buffers, _ = sealer.seal(identity, horizon.head, horizon.meta(), [])
    key = keyspace.horizon(history.vm_id, horizon.number)
    try:
        reader.store.put(key, buffers)
    except ObjectExists:
        if reader.store.get(key) != b"".join(buffers):
            raise Refused(
                "another process is pruning this VM's log",
                subject=history.vm_id,
                hint="Run `leeward vault prune` again when that has ended",
            ) from None


def _recheck(history: History, plan: PrunePlan, pinned: Collection[str]) -> None:
    """Whoever uses a point pins it first and then looks whether it is there: one of the two of us sees the other."""
    dropped = {point.id for point in plan.drop}
    if any(name in dropped for name in pinned):
        if plan.after != plan.before:
            _put_horizon(history, replace(plan.before, number=plan.after.number + 1))
        raise Refused("a recovery point was taken into use just now; it is not pruned", subject=history.vm_id)
    known = {point.id for point in history.span().points}
    unknown = [name for name in pinned if name not in known]
    if unknown:
        raise Refused(
            f"recovery point {unknown[0]} is marked as in use but not known; nothing is deleted until that expires",
            subject=history.vm_id,
        )


def _delete(history: History, plan: PrunePlan, on_step: Callable[[str], None]) -> Pruned:
    store = history.reader.store
    objects = size = locked = 0
    until: list[int] = []
    refused: dict[str, int] = {}  # by folder, how many in a row
    for info in plan.delete:
        folder = info.key.rsplit("/", 1)[0]
        if refused.get(folder, 0) >= _REFUSALS:
            locked += 1
            continue
        try:
            store.delete(info.key)
        except StoreUnavailable:
            raise
        except StoreError as error:
            locked += 1
            if isinstance(error, ObjectRetained):
                refused[folder] = refused.get(folder, 0) + 1
                until += [error.until_ns] if error.until_ns is not None else []
            continue
        refused[folder] = 0
        objects, size = objects + 1, size + info.size
        if objects == 1:
            on_step("deleted-some")
    on_step("deleted")
    return Pruned(len(plan.drop), objects, size, locked, min(until, default=None))
