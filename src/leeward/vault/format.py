"""The byte layout of a vault object: header, signature, meta, frames. FORMAT.md beside this file has the table."""

from __future__ import annotations

import struct
import uuid
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from leeward.domain.errors import Damaged

# The last byte is the format's version: a reader that does not know it must refuse.
MAGIC = b"LEEWARD\x01"
SIGNATURE_SIZE = 64  # Ed25519
HASH_SIZE = 32  # SHA-256 (ciphertext) and BLAKE3 (plain blocks) alike
SALT_SIZE = 32
TAG_SIZE = 16  # AES-256-GCM
FRAME_BLOCKS = 16  # 1 MiB of plain data: large enough for zstd, small enough for a guest's random read
# An object closes after this many frames: 32 MiB of plain data bound memory and are one comfortable upload.
OBJECT_FRAMES = 32
META_FRAME = 2**32 - 1  # the meta's place in the nonce space; frames count up from 0

_FIXED = struct.Struct("<8sB3xI16s16sQQIIq32s32sII32s")
FIXED_SIZE = _FIXED.size
FRAME_DTYPE = np.dtype([("length", "<u4"), ("blocks", "<u4"), ("hash", "V32")])
_IDENTITY_START = 16  # vault id … time: what a frame's key is bound to


class Kind(IntEnum):
    COMMIT = 1
    PART = 2
    EPOCH = 3
    MAP = 4
    DOCUMENT = 5
    HORIZON = 6
    MOVE = 7


@dataclass(frozen=True, slots=True)
class Identity:
    """What and whose an object is. time_ns: the instant (UTC). part: 0 except for parts, documents and horizons,
    which it numbers, and an EPOCH behind damaged entries: how many it passes over."""

    kind: Kind
    vault_id: uuid.UUID
    vm_id: uuid.UUID
    epoch: int
    seq: int
    part: int
    time_ns: int

    @property
    def passes(self) -> int:
        """Of a log entry: how many entries just before it do not belong to what it goes on from."""
        return self.part if self.kind is Kind.EPOCH else 0

    @property
    def follows(self) -> int:
        """Of a log entry: sequence number of the one whose header `prev` names; 0: none."""
        return self.seq - 1 - self.passes

    def binding(self) -> bytes:
        """The bytes that the object's key is derived from besides its salt."""
        return struct.pack(
            "<B16s16sQQIq",
            self.kind,
            self.vault_id.bytes,
            self.vm_id.bytes,
            self.epoch,
            self.seq,
            self.part,
            self.time_ns,
        )


@dataclass(frozen=True, slots=True)
class Header:
    """A parsed header. frames: structured array (length, blocks, hash); `size` is where the signature begins."""

    identity: Identity
    prev: bytes
    salt: bytes
    meta_length: int
    meta_hash: bytes
    frames: NDArray[np.void]

    @property
    def size(self) -> int:
        return FIXED_SIZE + len(self.frames) * FRAME_DTYPE.itemsize

    @property
    def meta_start(self) -> int:
        return self.size + SIGNATURE_SIZE

    @property
    def frames_start(self) -> int:
        return self.meta_start + self.meta_length

    @property
    def total(self) -> int:
        """Bytes of the whole object."""
        return self.frames_start + int(self.frames["length"].sum(dtype=np.uint64))

    def pack(self) -> bytes:
        identity = self.identity
        fixed = _FIXED.pack(
            MAGIC,
            identity.kind,
            self.size,
            identity.vault_id.bytes,
            identity.vm_id.bytes,
            identity.epoch,
            identity.seq,
            identity.part,
            len(self.frames),
            identity.time_ns,
            self.prev,
            self.salt,
            self.meta_length,
            int(self.frames["blocks"].sum(dtype=np.uint64)),
            self.meta_hash,
        )
        return fixed + self.frames.tobytes()


def header_size(start: bytes, key: str) -> int:
    """Length of the header from an object's first bytes (at least FIXED_SIZE of them). Raises Damaged."""
    if len(start) < FIXED_SIZE:
        raise Damaged("the object is truncated", subject=key)
    magic, _, size = struct.unpack_from("<8sB3xI", start)
    if magic != MAGIC:
        if magic[:7] == MAGIC[:7]:
            raise Damaged(f"format version {magic[7]} is not known here", subject=key, hint="Update Leeward")
        raise Damaged("this is not a vault object", subject=key)
    if size < FIXED_SIZE or (size - FIXED_SIZE) % FRAME_DTYPE.itemsize:
        raise Damaged("the header's length is impossible", subject=key)
    return int(size)


def parse_header(raw: bytes, key: str) -> Header:
    """`raw` is the whole header. Raises Damaged; the signature is the caller's to verify."""
    size = header_size(raw, key)
    if len(raw) < size:
        raise Damaged("the object is truncated", subject=key)
    fields = _FIXED.unpack_from(raw)
    _, kind, _, vault, vm, epoch, seq, part, count, time_ns, prev, salt, meta_length, blocks, meta_hash = fields
    if count * FRAME_DTYPE.itemsize != size - FIXED_SIZE or kind not in Kind._value2member_map_:
        raise Damaged("the header contradicts itself", subject=key)
    frames = np.frombuffer(raw, FRAME_DTYPE, count, FIXED_SIZE)
    if int(frames["blocks"].sum(dtype=np.uint64)) != blocks:
        raise Damaged("the header contradicts itself", subject=key)
    identity = Identity(Kind(kind), uuid.UUID(bytes=vault), uuid.UUID(bytes=vm), epoch, seq, part, time_ns)
    return Header(identity, prev, salt, meta_length, meta_hash, frames)
