"""Verification of a whole vault: without any key (signatures, hashes, chain), or with keys down to every block."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from blake3 import blake3

from leeward.domain.blocks import BLOCK_SIZE
from leeward.domain.errors import Damaged, NotFound, ObjectNotFound
from leeward.ports.objects import ObjectInfo, ObjectStore
from leeward.vault import keyspace
from leeward.vault.crypto import Keyring, VaultKeys
from leeward.vault.facade import read_keyring
from leeward.vault.folding import Entry, Part, fold
from leeward.vault.format import HASH_SIZE, Kind
from leeward.vault.history import History
from leeward.vault.horizon import Horizon
from leeward.vault.index import MapState
from leeward.vault.segment import Meta, ObjectReader, Opened, verified

_PARALLEL = 4


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that is wrong. key: the object; what: in words."""

    key: str
    what: str


@dataclass(slots=True)
class CheckReport:
    """objects, bytes: looked at. hurt: VM id → ids of points that need a damaged object (known only with keys,
    and without keys by the log's chain: every point from a damaged entry on)."""

    objects: int = 0
    bytes: int = 0
    points: int = 0
    troubles: list[Trouble] = field(default_factory=list)
    hurt: dict[str, list[str]] = field(default_factory=dict)

    @property
    def sound(self) -> bool:
        return not self.troubles


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the check of one object found: its header when that is sound, and what is wrong."""

    info: ObjectInfo
    opened: Opened | None
    meta: Meta | None
    what: str


def check(
    store: ObjectStore,
    public_key: bytes | None = None,
    *,
    keys: VaultKeys | None = None,
    deep: bool = False,
    progress: Callable[[int, int], None] = lambda objects, size: None,
) -> CheckReport:
    """Read every object of the vault.

    public_key: to verify against; None takes the keyring's own, which proves consistency but not whose vault it is.
    keys: also decrypts what the log says, so hurt points are known exactly. deep (needs keys): decrypts every frame
    and compares every block's hash. Damage is reported, never raised; StoreUnavailable and the like are raised.
    """
    report = CheckReport()
    ring: Keyring = read_keyring(store)
    if public_key is not None and ring.public_key != public_key:
        report.troubles.append(Trouble(keyspace.KEYRING, "the keyring names another public key than the one given"))
    trusted = public_key or ring.public_key
    reader = ObjectReader(store, keys) if keys else None
    for info in store.scan(keyspace.KEYRING):
        report.objects, report.bytes = report.objects + 1, report.bytes + info.size
    for vm_id in store.folders("vm/"):
        _check_vm(store, vm_id, trusted, ring, reader, deep, report, progress)
    for info in store.scan(""):
        if not keyspace.is_known(info.key):
            report.troubles.append(Trouble(info.key, "this object does not belong to a vault"))
    return report


def _check_vm(
    store: ObjectStore,
    vm_id: str,
    public_key: bytes,
    ring: Keyring,
    reader: ObjectReader | None,
    deep: bool,
    report: CheckReport,
    progress: Callable[[int, int], None],
) -> None:
    seen: dict[str, _Seen] = {}
    with ThreadPoolExecutor(_PARALLEL) as pool:
        infos = list(store.scan(f"vm/{vm_id}/"))
        for found in pool.map(lambda info: _check_object(store, info, public_key, ring, reader, deep), infos):
            seen[found.info.key] = found
            report.objects += 1
            report.bytes += found.info.size
            if found.what:
                report.troubles.append(Trouble(found.info.key, found.what))
            progress(report.objects, report.bytes)
    _check_chain(vm_id, seen, report)
    if reader is not None:
        _check_points(History(reader, vm_id), seen, report)


def _check_object(
    store: ObjectStore,
    info: ObjectInfo,
    public_key: bytes,
    ring: Keyring,
    reader: ObjectReader | None,
    deep: bool,
) -> _Seen:
    try:
        data = store.get(info.key)
    except ObjectNotFound:
        return _Seen(info, None, None, "vanished while the check ran")
    opened = None
    meta = None
    try:
        opened = verified(data, info.key, public_key)
        if reader is not None:
            # First, since a damaged frame leaves the meta readable, and with it what the log says.
            meta = reader.meta(opened)
        _check_bytes(opened, data, ring.vault_id, info.key.split("/")[1])
        if reader is not None and meta is not None and deep:
            _check_blocks(reader, opened, meta)
    except Damaged as error:
        return _Seen(info, opened, meta, error.message)
    # Frames are checked; what is kept for the chain is the header alone, not megabytes of data.
    slim = Opened(opened.key, opened.header, opened.digest, b"", opened.offsets, opened.first_block)
    return _Seen(info, slim, meta, "")


def _check_bytes(opened: Opened, data: bytes, vault_id: uuid.UUID, vm_id: str) -> None:
    """Everything that the signed header says about the rest. Needs no key."""
    header, key = opened.header, opened.key
    if header.identity.vault_id != vault_id:
        raise Damaged("this object belongs to another vault", subject=key)
    if str(header.identity.vm_id) != vm_id:
        raise Damaged(f"this object belongs to VM {header.identity.vm_id}", subject=key)
    if len(data) != header.total:
        raise Damaged(f"{len(data)} bytes where the header says {header.total}", subject=key)
    view = memoryview(data)
    if hashlib.sha256(view[header.meta_start : header.frames_start]).digest() != header.meta_hash:
        raise Damaged("the meta part is damaged", subject=key)
    for number, row in enumerate(header.frames):
        if row["length"] == 0:
            continue
        lo, hi = int(opened.offsets[number]), int(opened.offsets[number + 1])
        if hashlib.sha256(view[lo:hi]).digest() != row["hash"].tobytes():
            raise Damaged(f"frame {number} is damaged", subject=key)


def _check_blocks(reader: ObjectReader, opened: Opened, meta: Meta) -> None:
    block = 0
    for number in range(len(opened.header.frames)):
        data = memoryview(reader.frames(opened, number, 1)[0])
        if not int(opened.header.frames["blocks"][number]):
            continue
        for at in range(0, len(data), BLOCK_SIZE):
            digest = meta.hashes[block * HASH_SIZE : (block + 1) * HASH_SIZE]
            if blake3(data[at : at + BLOCK_SIZE]).digest() != digest:
                raise Damaged(f"block {block} does not have the content it was stored with", subject=opened.key)
            block += 1


def _check_chain(vm_id: str, seen: dict[str, _Seen], report: CheckReport) -> None:
    """Log entries are dense from the horizon on, and each names the header of the one that it follows."""
    base, head = _visible_horizon(vm_id, seen)
    if base and keyspace.map_(vm_id, base) not in seen:
        report.troubles.append(Trouble(keyspace.map_(vm_id, base), "the pruned log rests on this map; it is missing"))
    digests = {base: head}
    expected = base + 1
    for key in _log_keys(seen, vm_id):
        seq = keyspace.number_of(key)
        if seq <= base:
            continue  # kept for its data only
        if seq > expected:
            last = f" … {seq - 1}" if seq - 1 > expected else ""
            what = f"log entries {expected}{last} are missing" if last else "this log entry is missing"
            report.troubles.append(Trouble(keyspace.log(vm_id, expected), what))
        opened = seen[key].opened
        if opened:
            follows = opened.header.identity.follows
            if opened.header.prev != digests.get(follows, opened.header.prev) or follows < base:
                passes = opened.header.identity.passes
                what = f"does not follow log entry {follows}" if passes else "does not follow the entry before it"
                report.troubles.append(Trouble(key, what))
            digests[seq] = opened.digest
        expected = seq + 1


def _visible_horizon(vm_id: str, seen: dict[str, _Seen]) -> tuple[int, bytes]:
    """(base, hash of its header) of the newest horizon that is sound; both are in its signed header, in the clear."""
    prefix = f"vm/{vm_id}/horizon/"
    for key in sorted((key for key in seen if key.startswith(prefix)), reverse=True):
        opened = seen[key].opened
        if opened is not None and not seen[key].what:
            return opened.header.identity.seq, opened.header.prev
    return 0, bytes(HASH_SIZE)


def _check_points(history: History, seen: dict[str, _Seen], report: CheckReport) -> None:
    """Fold the log and name every point that needs an object with a trouble, or that cannot be folded at all."""
    vm_id = history.vm_id
    watch = Watch(vm_id, {key for key, found in seen.items() if not found.what and found.opened is not None})
    try:
        horizon = history.horizon()
    except Damaged:
        horizon = Horizon()  # named already; what follows can only be told from the log that is left
    hurt = [point.id for point in horizon.points if _lost(history, point.seq, watch)]
    report.points += len(horizon.points)
    state, broken = MapState(), False
    if horizon.base:
        loaded = _checkpoint(history, horizon.base)
        state, broken = loaded or state, loaded is None
    watch.restart()
    for key in _log_keys(seen, vm_id):
        if keyspace.number_of(key) <= horizon.base:
            continue
        entry = seen[key]
        if entry.opened is not None and entry.opened.header.identity.passes:
            # What it passes over is named already; from here on nothing rests on that.
            loaded = _state(history, horizon, entry.opened.header.identity.follows)
            state, broken = loaded or state, loaded is None
            watch.restart()
        if entry.opened is None or entry.meta is None:
            broken = True
        elif not broken:
            broken = not _fold(history, state, entry, seen, report)
        is_commit = entry.opened is None or entry.opened.header.identity.kind is Kind.COMMIT
        if is_commit:
            report.points += 1
            if broken or watch.needs_lost(state):
                hurt.append(str(keyspace.number_of(key)))
    if hurt:
        report.hurt[vm_id] = hurt


def _checkpoint(history: History, seq: int) -> MapState | None:
    try:
        return history.checkpoint(seq).state
    except (Damaged, ObjectNotFound):
        return None


def _state(history: History, horizon: Horizon, seq: int) -> MapState | None:
    try:
        return history.state_in(horizon, seq)
    except (Damaged, NotFound, ObjectNotFound):
        return None


def _lost(history: History, seq: int, watch: Watch) -> bool:
    state = _checkpoint(history, seq)
    watch.restart()
    return state is None or watch.needs_lost(state)


def _log_keys(seen: dict[str, _Seen], vm_id: str) -> Iterator[str]:
    return iter(sorted(key for key in seen if key.startswith(f"vm/{vm_id}/log/")))


def _fold(history: History, state: MapState, entry: _Seen, seen: dict[str, _Seen], report: CheckReport) -> bool:
    assert entry.opened is not None
    assert entry.meta is not None
    parts = []
    for number, digest in entry.meta.info.get("parts", []):
        key = keyspace.part(history.vm_id, keyspace.number_of(entry.info.key), number)
        part = seen.get(key)
        if part is None:
            report.troubles.append(Trouble(key, "a part that the log names is missing"))
            return False
        if part.opened is None or part.meta is None or part.opened.digest.hex() != digest:
            return False
        parts.append(Part.of(part.opened, part.meta))
    try:
        fold(state, Entry(entry.opened, entry.meta, tuple(parts)))
    except Damaged:
        return False
    return True


class Watch:
    """Does a growing state need an object that is damaged or missing? sound: keys of all objects that are whole."""

    def __init__(self, vm_id: str, sound: set[str]) -> None:
        self._vm_id = vm_id
        self._sound = sound
        self.restart()

    def restart(self) -> None:
        """Forget the state looked at so far; another one comes."""
        self._looked_at = 0
        self._lost: list[int] = []
        self._witness: tuple[str, int, int] | None = None

    def needs_lost(self, state: MapState) -> bool:
        """Call it with the same state as it is folded on. Cheap as long as one block that is lost stays in use."""
        for number in range(self._looked_at + 1, len(state.objects) + 1):
            ref = state.objects[number]
            if keyspace.of_ref(self._vm_id, ref.seq, ref.part) not in self._sound:
                self._lost.append(number)
        self._looked_at = len(state.objects)
        if not self._lost:
            return False
        if self._witness is not None:
            name, block, location = self._witness
            disk = state.maps.get(name)
            if disk is not None and int(disk.locate(block, 1)[0]) == location:
                return True
        self._witness = self._find(state)
        return self._witness is not None

    def _find(self, state: MapState) -> tuple[str, int, int] | None:
        for name, disk in state.maps.items():
            found = disk.find(self._lost)
            if found is not None:
                return name, *found
        return None


__all__ = ["CheckReport", "Trouble", "Watch", "check"]
