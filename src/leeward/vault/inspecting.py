"""Verification of one object of a vault: what can be told without a key, what its keys add, down to every block."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass

from blake3 import blake3

from leeward.domain.blocks import BLOCK_SIZE
from leeward.domain.errors import Damaged, ObjectNotFound
from leeward.ports.objects import ObjectInfo, ObjectStore
from leeward.vault.crypto import Keyring
from leeward.vault.format import HASH_SIZE
from leeward.vault.segment import Meta, ObjectReader, Opened, verified


@dataclass(frozen=True, slots=True)
class Seen:
    """What the look at one object found: its header when that is sound, and what is wrong ("": nothing)."""

    info: ObjectInfo
    opened: Opened | None
    meta: Meta | None
    what: str


def inspect(
    store: ObjectStore,
    info: ObjectInfo,
    public_key: bytes,
    ring: Keyring,
    reader: ObjectReader | None,
    deep: bool,
) -> Seen | None:
    """None: it is not there any more. Raises what the store raises."""
    try:
        data = store.get(info.key)
    except ObjectNotFound:
        return None
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
        return Seen(info, opened, meta, error.message)
    # Frames are checked; what is kept for the chain is the header alone, not megabytes of data.
    slim = Opened(opened.key, opened.header, opened.digest, b"", opened.offsets, opened.first_block)
    return Seen(info, slim, meta, "")


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


__all__ = ["Seen", "inspect"]
