"""Verification of a whole vault: without any key (signatures, hashes, chain), or with keys down to every block."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from blake3 import blake3

from leeward.domain.blocks import BLOCK_SIZE
from leeward.domain.errors import Damaged, ObjectNotFound
from leeward.ports.objects import ObjectInfo, ObjectStore
from leeward.vault import keyspace
from leeward.vault.crypto import Keyring, VaultKeys
from leeward.vault.facade import read_keyring
from leeward.vault.format import HASH_SIZE, Kind
from leeward.vault.history import Entry, History, Part, fold
from leeward.vault.index import MapState, ObjectRef
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
    """Log entries are dense from the oldest on and each names its predecessor's header."""
    prefix = f"vm/{vm_id}/log/"
    keys = sorted(key for key in seen if key.startswith(prefix))
    before: _Seen | None = None
    expected = None
    for key in keys:
        seq = keyspace.number_of(key)
        expected = seq if expected is None else expected
        while expected < seq:
            report.troubles.append(Trouble(keyspace.log(vm_id, expected), "this log entry is missing"))
            before, expected = None, expected + 1
        entry = seen[key]
        if entry.opened and before and before.opened and entry.opened.header.prev != before.opened.digest:
            report.troubles.append(Trouble(key, "does not follow the entry before it"))
        before, expected = entry, seq + 1
    if keys and keyspace.number_of(keys[0]) != 1 and not any(f"vm/{vm_id}/map/" in key for key in seen):
        report.troubles.append(Trouble(keyspace.log(vm_id, 1), "the log's beginning is missing and no map covers it"))


def _check_points(history: History, seen: dict[str, _Seen], report: CheckReport) -> None:
    """Fold the log and name every point that needs an object with a trouble, or that cannot be folded at all."""
    vm_id = history.vm_id
    bad = {key for key, found in seen.items() if found.what or found.opened is None}
    hurt: list[str] = []
    state = MapState()
    broken = False
    for key in _log_keys(seen, vm_id):
        entry = seen[key]
        if entry.opened is None or entry.meta is None:
            broken = True
        elif not broken:
            broken = not _fold(history, state, entry, seen, report)
        is_commit = entry.opened is None or entry.opened.header.identity.kind is Kind.COMMIT
        if is_commit:
            report.points += 1
            if broken or _needs(state, bad, vm_id):
                hurt.append(str(keyspace.number_of(key)))
    if hurt:
        report.hurt[vm_id] = hurt


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


def _needs(state: MapState, bad: set[str], vm_id: str) -> bool:
    """True when a block of the state lies in one of the bad objects."""
    if not bad:
        return False
    for disk in state.maps.values():
        for number in disk.objects().tolist():
            if _key(state.objects[number], vm_id) in bad:
                return True
    return False


def _key(ref: ObjectRef, vm_id: str) -> str:
    return keyspace.log(vm_id, ref.seq) if ref.part < 0 else keyspace.part(vm_id, ref.seq, ref.part)


__all__ = ["CheckReport", "Trouble", "check"]
