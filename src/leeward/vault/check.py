"""Verification of a whole vault: without any key (signatures, hashes, chain), or with keys down to every block."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

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
from leeward.vault.inspecting import Seen, inspect
from leeward.vault.segment import ObjectReader

_PARALLEL = 4
# What was pruned or replaced while a VM's objects were read is looked for in a newer listing, so many times at most.
_LOOKS = 8


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
        return not self.troubles and not self.hurt


@dataclass(slots=True)
class _Verdict:
    """On what all of a VM's objects say together. missing: keys of objects that ought to be there."""

    points: int = 0
    troubles: list[Trouble] = field(default_factory=list)
    missing: set[str] = field(default_factory=set)
    hurt: list[str] = field(default_factory=list)

    def add(self, key: str, what: str) -> None:
        self.troubles.append(Trouble(key, what))

    def lacks(self, key: str, what: str) -> None:
        if key not in self.missing:
            self.missing.add(key)
            self.add(key, what)


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
    Where the keyring names another one, that alone is reported.
    keys: also decrypts what the log says, so hurt points are known exactly. deep (needs keys): decrypts every frame
    and compares every block's hash. Others may write and prune meanwhile. Damage is reported, never raised;
    StoreUnavailable and the like are raised.
    """
    report = CheckReport()
    ring: Keyring = read_keyring(store)
    if public_key is not None and ring.public_key != public_key:
        # Of all that lies here nothing would verify against it, object by object.
        what = "this is not the vault of the public key that was given, or its keyring was exchanged"
        report.troubles.append(Trouble(keyspace.KEYRING, what))
        return report
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
    seen: dict[str, Seen] = {}
    verdict = _Verdict()
    settled = False

    def look(info: ObjectInfo) -> Seen | None:
        return inspect(store, info, public_key, ring, reader, deep)

    with ThreadPoolExecutor(_PARALLEL) as pool:
        for _ in range(_LOOKS):
            fresh = [info for info in store.scan(f"vm/{vm_id}/") if info.key not in seen]
            if settled and not any(info.key in verdict.missing or _is_horizon(info.key) for info in fresh):
                break
            settled = True
            for found in pool.map(look, fresh):
                if found is None:
                    settled = False  # pruned or replaced, as a rule; what is to be there is missed below
                    continue
                seen[found.info.key] = found
                report.objects += 1
                report.bytes += found.info.size
                if found.what:
                    report.troubles.append(Trouble(found.info.key, found.what))
                progress(report.objects, report.bytes)
            verdict = _judge(vm_id, seen, reader)
            if settled and not verdict.troubles and not verdict.hurt:
                break
        else:
            if verdict.troubles or verdict.hurt:
                what = "what is said of this VM is not certain: its objects changed all the time; check again"
                report.troubles.append(Trouble(f"vm/{vm_id}/", what))
    report.points += verdict.points
    report.troubles += verdict.troubles
    if verdict.hurt:
        report.hurt[vm_id] = verdict.hurt


def _is_horizon(key: str) -> bool:
    return key.split("/")[2] == "horizon"


def _judge(vm_id: str, seen: dict[str, Seen], reader: ObjectReader | None) -> _Verdict:
    verdict = _Verdict()
    _check_chain(vm_id, seen, verdict)
    if reader is not None:
        _check_points(History(reader, vm_id), seen, verdict)
    return verdict


def _check_chain(vm_id: str, seen: dict[str, Seen], verdict: _Verdict) -> None:
    """Log entries are dense from the horizon on, and each names the header of the one that it follows."""
    base, head = _visible_horizon(vm_id, seen)
    if base and keyspace.map_(vm_id, base) not in seen:
        verdict.lacks(keyspace.map_(vm_id, base), "the pruned log rests on this map; it is missing")
    digests = {base: head}
    expected = base + 1
    for key in _log_keys(seen, vm_id):
        seq = keyspace.number_of(key)
        if seq <= base:
            continue  # kept for its data only
        if seq > expected:
            last = f" … {seq - 1}" if seq - 1 > expected else ""
            what = f"log entries {expected}{last} are missing" if last else "this log entry is missing"
            verdict.lacks(keyspace.log(vm_id, expected), what)
        opened = seen[key].opened
        if opened:
            follows = opened.header.identity.follows
            if opened.header.prev != digests.get(follows, opened.header.prev) or follows < base:
                passes = opened.header.identity.passes
                what = f"does not follow log entry {follows}" if passes else "does not follow the entry before it"
                verdict.add(key, what)
            digests[seq] = opened.digest
        expected = seq + 1


def _visible_horizon(vm_id: str, seen: dict[str, Seen]) -> tuple[int, bytes]:
    """(base, hash of its header) of the newest horizon that is sound; both are in its signed header, in the clear."""
    prefix = f"vm/{vm_id}/horizon/"
    for key in sorted((key for key in seen if key.startswith(prefix)), reverse=True):
        opened = seen[key].opened
        if opened is not None and not seen[key].what:
            return opened.header.identity.seq, opened.header.prev
    return 0, bytes(HASH_SIZE)


def _check_points(history: History, seen: dict[str, Seen], verdict: _Verdict) -> None:
    """Fold the log and name every point that needs an object with a trouble, or that cannot be folded at all."""
    vm_id = history.vm_id
    watch = Watch(vm_id, {key for key, found in seen.items() if not found.what and found.opened is not None})
    horizon = _newest_horizon(vm_id, seen)
    hurt = [point.id for point in horizon.points if _lost(history, point.seq, watch, seen, verdict)]
    verdict.points += len(horizon.points)
    state, broken = MapState(), False
    if horizon.base:
        loaded = _checkpoint(history, horizon.base)
        state, broken = loaded or state, loaded is None
    watch.restart()
    watch.needs_lost(state)
    _name_missing(watch, state, seen, verdict)
    for key in _log_keys(seen, vm_id):
        if keyspace.number_of(key) <= horizon.base:
            continue
        entry = seen[key]
        if entry.opened is not None and entry.opened.header.identity.passes:
            # What it passes over is named already; from here on nothing rests on that.
            loaded = _state(history, horizon, entry.opened.header.identity.follows)
            state, broken = loaded or state, loaded is None
            watch.restart()
        if entry.opened is None or entry.meta is None or entry.opened.header.identity.follows != state.seq:
            broken = True  # damaged, or after one that is missing: named already
        elif not broken:
            broken = not _fold(history, state, entry, seen, verdict)
        is_commit = entry.opened is None or entry.opened.header.identity.kind is Kind.COMMIT
        if is_commit:
            verdict.points += 1
            if broken or watch.needs_lost(state):
                hurt.append(str(keyspace.number_of(key)))
    verdict.hurt = hurt


def _newest_horizon(vm_id: str, seen: dict[str, Seen]) -> Horizon:
    """Among those seen. A damaged one, which is named already, hides nothing: only the log that is left can tell."""
    newest = max((key for key in seen if key.startswith(f"vm/{vm_id}/horizon/")), default="")
    found = seen.get(newest)
    if found is None or found.what or found.opened is None or found.meta is None:
        return Horizon()
    header = found.opened.header
    identity = header.identity
    return Horizon.of(keyspace.number_of(newest), identity.seq, identity.epoch, header.prev, found.meta.info)


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


def _lost(history: History, seq: int, watch: Watch, seen: dict[str, Seen], verdict: _Verdict) -> bool:
    state = _checkpoint(history, seq)
    watch.restart()
    if state is None:
        key = keyspace.map_(history.vm_id, seq)
        if key not in seen:
            verdict.lacks(key, "the pruned log rests on this object; it is missing")
        return True
    lost = watch.needs_lost(state)
    if lost:
        _name_missing(watch, state, seen, verdict)
    return lost


def _name_missing(watch: Watch, state: MapState, seen: Container[str], verdict: _Verdict) -> None:
    """What maps of a pruned log still need. Nothing else would tell: the entry that wrote it is not read any more."""
    for key in watch.needed(state, besides=seen):
        verdict.lacks(key, "the pruned log rests on this object; it is missing")


def _log_keys(seen: dict[str, Seen], vm_id: str) -> Iterator[str]:
    return iter(sorted(key for key in seen if key.startswith(f"vm/{vm_id}/log/")))


def _fold(history: History, state: MapState, entry: Seen, seen: dict[str, Seen], verdict: _Verdict) -> bool:
    assert entry.opened is not None
    assert entry.meta is not None
    parts = []
    for number, digest in entry.meta.info.get("parts", []):
        key = keyspace.part(history.vm_id, keyspace.number_of(entry.info.key), number)
        part = seen.get(key)
        if part is None:
            verdict.lacks(key, "a part that the log names is missing")
            return False
        if part.opened is None or part.meta is None:
            return False
        if part.opened.digest.hex() != digest:
            verdict.add(key, "this is not the part that the log names")
            return False
        parts.append(Part.of(part.opened, part.meta))
    try:
        fold(state, Entry(entry.opened, entry.meta, tuple(parts)))
    except Damaged as error:
        if not any(trouble.key == entry.info.key for trouble in verdict.troubles):
            verdict.add(entry.info.key, error.message)
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

    def needed(self, state: MapState, besides: Container[str]) -> Iterator[str]:
        """Keys of the lost objects that the state, just asked about, needs, without those `besides`."""
        for number in self._lost:
            ref = state.objects[number]
            key = keyspace.of_ref(self._vm_id, ref.seq, ref.part)
            if key not in besides and any(disk.find([number]) for disk in state.maps.values()):
                yield key

    def _find(self, state: MapState) -> tuple[str, int, int] | None:
        for name, disk in state.maps.items():
            found = disk.find(self._lost)
            if found is not None:
                return name, *found
        return None


__all__ = ["CheckReport", "Trouble", "Watch", "check"]
