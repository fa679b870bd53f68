"""Object keys: where things lie in a vault, and what an identity's key must be."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from leeward.ports.objects import ObjectInfo
from leeward.vault.format import Identity, Kind

KEYRING = "keyring/"
# What a look at the place leaves behind where nothing can be deleted (see `leeward.vault.place`).
PROBE = "probe/"
_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_NAMES = r"(log|map)/\d{16}|part/\d{16}\.\d{10}|horizon/\d{8}|doc/[a-z0-9_-]+\.\d{8,}|pin/[0-9a-f]{32}"
_KNOWN = re.compile(rf"keyring/\d{{8}}|probe/[0-9a-f]{{32}}|vm/{_UUID}/({_NAMES})")


def is_known(key: str) -> bool:
    """True when this format could have an object at `key`."""
    return _KNOWN.fullmatch(key) is not None


def keyring(number: int) -> str:
    return f"{KEYRING}{number:08d}"


def probe(name: str) -> str:
    return f"{PROBE}{name}"


def log(vm_id: str, seq: int) -> str:
    return f"vm/{vm_id}/log/{seq:016d}"


def part(vm_id: str, seq: int, number: int) -> str:
    return f"vm/{vm_id}/part/{seq:016d}.{number:010d}"


def of_ref(vm_id: str, seq: int, number: int) -> str:
    """Key of an object that a map names. number: -1 for a log entry, else the part's."""
    return log(vm_id, seq) if number < 0 else part(vm_id, seq, number)


def parts(vm_id: str, seq: int) -> str:
    """Prefix of all parts that were made for the point to be committed at `seq`."""
    return f"vm/{vm_id}/part/{seq:016d}."


def map_(vm_id: str, seq: int) -> str:
    return f"vm/{vm_id}/map/{seq:016d}"


def horizon(vm_id: str, number: int) -> str:
    return f"vm/{vm_id}/horizon/{number:08d}"


def document(vm_id: str, kind: str, number: int) -> str:
    return f"vm/{vm_id}/doc/{kind}.{number:08d}"


def pin(vm_id: str, name: str) -> str:
    return f"vm/{vm_id}/pin/{name}"


def number_of(key: str) -> int:
    """The number at a key's end: sequence number, part number, document number."""
    return int(re.split(r"[/.]", key)[-1])


def numbered(infos: Iterable[ObjectInfo]) -> Iterator[tuple[int, ObjectInfo]]:
    """With the number at each key's end. What others put among the objects is left out; `check` names it."""
    return ((number_of(info.key), info) for info in infos if is_known(info.key))


def key_of(identity: Identity) -> str | None:
    """Where an object of this identity must stand; None for documents and pins, whose names are not in the header."""
    vm_id = str(identity.vm_id)
    if identity.kind in (Kind.COMMIT, Kind.EPOCH, Kind.MOVE):
        return log(vm_id, identity.seq)
    if identity.kind is Kind.PART:
        return part(vm_id, identity.seq, identity.part)
    if identity.kind is Kind.MAP:
        return map_(vm_id, identity.seq)
    if identity.kind is Kind.HORIZON:
        return horizon(vm_id, identity.part)
    return None
