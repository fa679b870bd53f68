"""The vault as the rest of Leeward sees it."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from leeward.domain.errors import (
    BadInput,
    Damaged,
    Fenced,
    NotFound,
    ObjectExists,
    ObjectNotFound,
    ObjectRetained,
    Refused,
    StoreFull,
    StoreReadOnly,
    WrongKey,
)
from leeward.domain.points import RecoveryPoint
from leeward.domain.retention import Retention
from leeward.ports.objects import ObjectStore
from leeward.vault import keyspace, prune
from leeward.vault.crypto import Argon2, Keyring, VaultKeys, recovery_text, seal_keyring
from leeward.vault.format import Identity, Kind
from leeward.vault.history import History
from leeward.vault.lease import LEASE_S, Lease
from leeward.vault.log import VmLog
from leeward.vault.prune import Pruned, PrunePlan
from leeward.vault.segment import Meta, ObjectReader, Sealer

# Older documents of a kind are kept for the operator who looks what changed.
_KEEP_DOCUMENTS = 4
# An expired pin is taken away an hour later: its owner may be about to renew it, and clocks differ.
_PIN_GRACE_NS = 3600 * 10**9


@dataclass(frozen=True, slots=True)
class Pin:
    """A lease on a point. expires_ns: UTC ns after which it no longer counts."""

    name: str
    point_id: str
    owner: str
    expires_ns: int


@dataclass(frozen=True, slots=True)
class VmInfo:
    """What the vault holds of one VM. bytes: of all its objects."""

    vm_id: str
    name: str
    points: int
    first: RecoveryPoint | None
    last: RecoveryPoint | None
    objects: int
    bytes: int


@dataclass(frozen=True, slots=True)
class VaultInfo:
    vault_id: str
    url: str
    created: str
    fingerprint: str
    vms: tuple[VmInfo, ...]

    @property
    def objects(self) -> int:
        return sum(vm.objects for vm in self.vms)

    @property
    def bytes(self) -> int:
        return sum(vm.bytes for vm in self.vms)


class Vault:
    """Made by `create` or `open`. Thread-safe; holds no state of its own besides the keys."""

    def __init__(self, store: ObjectStore, keys: VaultKeys, keyring: Keyring | None) -> None:
        """keyring: None lets `info` read it."""
        self.store = store
        self.keys = keys
        self._keyring = keyring
        self._reader = ObjectReader(store, keys)

    @property
    def id(self) -> uuid.UUID:
        return self.keys.vault_id

    @property
    def public_key(self) -> bytes:
        return self.keys.public_key

    @classmethod
    def create(cls, store: ObjectStore, passphrase: str, *, cost: Argon2 | None = None) -> tuple[Vault, str]:
        """A new vault in an empty store, and its recovery key, which is not kept anywhere.

        Raises Refused when the store holds a vault already.
        """
        keys, recovery = VaultKeys.generate(), os.urandom(32)
        created = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        data = seal_keyring(keys, passphrase, recovery, created, cost)
        try:
            store.put(keyspace.keyring(1), [data])
        except ObjectExists:
            raise Refused(
                "there is a vault already",
                subject=store.url,
                hint="Use `leeward vault unlock` with its passphrase, or choose another place",
            ) from None
        return cls(store, keys, Keyring.parse(data, keyspace.keyring(1))), recovery_text(recovery)

    @classmethod
    def open(
        cls,
        store: ObjectStore,
        *,
        passphrase: str | None = None,
        recovery_key: str | None = None,
        keys: VaultKeys | None = None,
    ) -> Vault:
        """With one of the three. Raises WrongKey, or NotFound when there is no vault."""
        ring = read_keyring(store)
        if keys is not None:
            if keys.vault_id != ring.vault_id:
                raise WrongKey(
                    "the key at hand belongs to another vault",
                    subject=store.url,
                    hint="Run `leeward vault unlock` with this vault's passphrase or recovery key",
                )
        elif passphrase is not None:
            keys = ring.open_with_passphrase(passphrase)
        elif recovery_key is not None:
            keys = ring.open_with_recovery_key(recovery_key)
        else:
            raise BadInput("a passphrase, a recovery key or a key file is needed to open the vault")
        return cls(store, keys, ring)

    @classmethod
    def with_keys(cls, store: ObjectStore, keys: VaultKeys) -> Vault:
        """As `open`, without asking the store for anything, which may be away. That the keys are another vault's
        shows when the first object is read."""
        return cls(store, keys, None)

    def vm_ids(self) -> list[str]:
        """Every VM that the vault holds something of."""
        return self.store.folders("vm/")

    def log(self, vm_id: str) -> VmLog:
        return VmLog(self._reader, vm_id)

    def info(self) -> VaultInfo:
        """Lists everything; takes as long as the store needs for that."""
        vms = tuple(self._vm_info(vm_id) for vm_id in self.vm_ids())
        ring = self._keyring or read_keyring(self.store)
        return VaultInfo(str(self.id), self.store.url, ring.created, fingerprint(self.public_key), vms)

    def _vm_info(self, vm_id: str) -> VmInfo:
        objects = size = 0
        for info in self.store.scan(f"vm/{vm_id}/"):
            objects, size = objects + 1, size + info.size
        points = self.log(vm_id).points()
        catalog = self.document(vm_id, "catalog") or {}
        first, last = (points[0], points[-1]) if points else (None, None)
        return VmInfo(vm_id, str(catalog.get("name", "")), len(points), first, last, objects, size)

    # --- documents ----------------------------------------------------------------------------------

    def put_document(self, vm_id: str, kind: str, data: dict[str, Any]) -> None:
        """Store a small JSON document, encrypted; the newest of a kind counts. kind: lower-case letters."""
        numbers = self._numbers(vm_id, kind)
        number = numbers[-1] + 1 if numbers else 1
        while True:
            try:
                key = keyspace.document(vm_id, kind, number)
                self.store.put(key, self._seal(vm_id, key, number, data))
                break
            except ObjectExists:
                number += 1  # another process was quicker; ours is newer
        for old in numbers[: -_KEEP_DOCUMENTS + 1]:
            with suppress(ObjectRetained):  # with a later one
                self.store.delete(keyspace.document(vm_id, kind, old))

    def document(self, vm_id: str, kind: str) -> dict[str, Any] | None:
        """The newest of a kind, or None. Raises Damaged."""
        numbers = self._numbers(vm_id, kind)
        return self._unseal(keyspace.document(vm_id, kind, numbers[-1])) if numbers else None

    def _numbers(self, vm_id: str, kind: str) -> list[int]:
        return [number for number, _ in keyspace.numbered(self.store.scan(f"vm/{vm_id}/doc/{kind}."))]

    def _seal(self, vm_id: str, key: str, number: int, data: dict[str, Any]) -> list[bytes]:
        vm = uuid.UUID(vm_id)
        identity = Identity(Kind.DOCUMENT, self.id, vm, 0, 0, number, time.time_ns())
        sealer = Sealer.make(self.keys, vm, 0, 0)
        return sealer.seal(identity, bytes(32), Meta.of({"key": key, "data": data}), [])[0]

    def _unseal(self, key: str) -> dict[str, Any]:
        meta = self._reader.meta(self._reader.open(key))
        if meta.info["key"] != key:
            raise Damaged(f"the document belongs at {meta.info['key']}", subject=key)
        data: dict[str, Any] = meta.info["data"]
        return data

    # --- pins ---------------------------------------------------------------------------------------

    def pin(self, vm_id: str, point_id: str, owner: str, ttl_s: float) -> str:
        """Keep a point from being pruned for `ttl_s` seconds. Returns the pin's name.

        Returns "" when the vault is full or read-only: pruning could put no horizon there either, and what must be
        recovered from such a vault must not fail for want of a pin. Try again when it matters for long.
        """
        name = uuid.uuid4().hex
        expires = time.time_ns() + int(ttl_s * 1e9)
        key = keyspace.pin(vm_id, name)
        data = {"point": point_id, "owner": owner, "expires_ns": expires}
        try:
            self.store.put(key, self._seal(vm_id, key, 0, data))
        except (StoreFull, StoreReadOnly):
            return ""
        return name

    def unpin(self, vm_id: str, name: str) -> None:
        with suppress(ObjectRetained):  # it expires by itself
            self.store.delete(keyspace.pin(vm_id, name))

    def pins(self, vm_id: str) -> list[Pin]:
        """Those that have not expired."""
        now = time.time_ns()
        return [pin for pin in self._pins(vm_id) if pin.expires_ns > now]

    def _pins(self, vm_id: str) -> Iterator[Pin]:
        for info in self.store.scan(f"vm/{vm_id}/pin/"):
            with suppress(ObjectNotFound):  # taken away since it was listed
                data = self._unseal(info.key)
                yield Pin(info.key.rsplit("/", 1)[1], data["point"], data["owner"], data["expires_ns"])

    # --- pruning ------------------------------------------------------------------------------------

    @contextmanager
    def holding(self, vm_id: str, point_id: str, owner: str) -> Iterator[str]:
        """Keep a point ("latest" or an id) from being pruned while it is read; gives its id. Raises NotFound.

        Of a vault that cannot be written it is read without a pin; see `pin`.
        """
        chosen = self.log(vm_id).point(point_id).id
        lease = Lease(lambda: self.pin(vm_id, chosen, owner, LEASE_S), lambda name: self.unpin(vm_id, name))
        with lease:
            yield chosen

    def prune_plan(
        self,
        vm_id: str,
        retention: Retention,
        *,
        epoch: int | None = None,
        now_ns: int | None = None,
        together: Mapping[str, Retention] | None = None,
    ) -> PrunePlan:
        """What `prune` would do. epoch: the one that the caller reigns in; raises Fenced when another has begun.

        together: the other VMs of its consistency group, and what they keep. Raises Damaged, StoreError.
        """
        if epoch is not None:
            newest = History(self._reader, vm_id).tail_epoch()
            if newest != epoch:
                raise Fenced(
                    f"epoch {epoch} of this VM is over: epoch {newest} has begun",
                    subject=vm_id,
                    hint="Nothing is pruned from here any more",
                )
        others = {other: (History(self._reader, other), theirs) for other, theirs in (together or {}).items()}
        return prune.plan(History(self._reader, vm_id), retention, self._pinned(vm_id), now_ns, others)

    def prune(self, plan: PrunePlan, on_step: Callable[[str], None] = lambda step: None) -> Pruned:
        """Carry a plan out. Raises Refused when what it rests on has changed (plan again), else as `prune_plan`."""
        for pin in self._pins(plan.vm_id):
            if pin.expires_ns < time.time_ns() - _PIN_GRACE_NS:
                self.unpin(plan.vm_id, pin.name)
        return prune.execute(History(self._reader, plan.vm_id), plan, lambda: self._pinned(plan.vm_id), on_step)

    def _pinned(self, vm_id: str) -> list[str]:
        return [pin.point_id for pin in self.pins(vm_id)]


def read_keyring(store: ObjectStore) -> Keyring:
    """The newest keyring of the store. Raises NotFound when there is none."""
    newest = None
    for info in store.scan(keyspace.KEYRING):
        newest = info.key
    if newest is None:
        raise NotFound("there is no vault here", subject=store.url, hint="Create one with `leeward vault init`")
    return Keyring.parse(store.get(newest), newest)


def fingerprint(public_key: bytes) -> str:
    """Short form for people to compare: first 16 bytes in hex, in groups of four."""
    text = public_key[:16].hex()
    return " ".join(text[at : at + 4] for at in range(0, 32, 4))
