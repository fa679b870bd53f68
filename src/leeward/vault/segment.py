"""Vault objects: sealing them, and opening what is stored.

Sealing is pure (bytes in, bytes out). Opening reads the beginning of an object with one range request, verifies the
signature and that the object is what its key says, and decrypts meta and frames on demand.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import threading
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray

from leeward.domain.blocks import BLOCK_SIZE
from leeward.domain.errors import Damaged
from leeward.ports.objects import Buffer, ObjectStore
from leeward.vault.crypto import VaultKeys, nonce, object_cipher, verify
from leeward.vault.format import (
    FRAME_BLOCKS,
    FRAME_DTYPE,
    HASH_SIZE,
    META_FRAME,
    SALT_SIZE,
    SIGNATURE_SIZE,
    TAG_SIZE,
    Header,
    Identity,
    header_size,
    parse_header,
)
from leeward.vault.keyspace import key_of

RUN_DTYPE = np.dtype([("disk", "<u4"), ("zero", "<u4"), ("start", "<u8"), ("count", "<u8")])
_RAW, _ZSTD = b"\x00", b"\x01"
# Level 1 keeps up with the disks of a small office; level 3 costs half the speed for a few percent of space.
_LEVEL = 1
# One request brings header and meta of nearly every object: a 32 MiB part has about 18 KiB of both.
FIRST_READ = 64 << 10
_MAX_META = 256 << 20
_BYTE_FRAME = FRAME_BLOCKS * BLOCK_SIZE

_thread = threading.local()


def _compress(data: Buffer) -> bytes:
    # A compressor must not be used by two threads at once, and is expensive to make.
    if not hasattr(_thread, "compressor"):
        _thread.compressor = zstandard.ZstdCompressor(level=_LEVEL)
    packed: bytes = _thread.compressor.compress(data)
    return packed


def _frame_plain(data: Buffer) -> memoryview:
    """What is encrypted of a frame of at most 1 MiB, until this thread's next one: compressed, unless that makes it
    longer. In the thread's own memory: to have it new each time costs the kernel's zeroing of it."""
    if not hasattr(_thread, "room"):
        _thread.room = memoryview(bytearray(1 + _BYTE_FRAME))
    room: memoryview = _thread.room
    packed, plain = _compress(data), memoryview(data).cast("B")
    how, what = (_ZSTD, packed) if len(packed) < len(plain) else (_RAW, plain)
    size = 1 + len(what)
    room[:1], room[1:size] = how, what
    return room[:size]


def _decompress(data: Buffer, limit: int) -> bytes:
    if not hasattr(_thread, "decompressor"):
        _thread.decompressor = zstandard.ZstdDecompressor()
    plain: bytes = _thread.decompressor.decompress(data, max_output_size=limit)
    return plain


@dataclass(frozen=True, slots=True)
class Meta:
    """info: JSON. runs: RUN_DTYPE rows. hashes: BLAKE3 of every stream block, 32 bytes each, concatenated."""

    info: dict[str, Any]
    runs: NDArray[np.void]
    hashes: bytes

    @staticmethod
    def of(info: dict[str, Any]) -> Meta:
        return Meta(info, np.empty(0, RUN_DTYPE), b"")

    def pack(self) -> bytes:
        text = json.dumps(self.info, separators=(",", ":"), sort_keys=True).encode()
        counts = struct.pack("<III", len(text), len(self.runs), len(self.hashes) // HASH_SIZE)
        return _compress(counts + text + self.runs.tobytes() + self.hashes)

    @staticmethod
    def parse(packed: bytes) -> Meta:
        """Raises ValueError (also zstd's error, which is not one) only for a writer's bug: the bytes were signed."""
        plain = _decompress(packed, _MAX_META)
        text, runs, hashes = struct.unpack_from("<III", plain)
        at = 12 + text
        end = at + runs * RUN_DTYPE.itemsize
        return Meta(
            json.loads(plain[12:at]),
            # A copy: a view would keep all the hashes in memory for as long as somebody needs the few runs.
            np.frombuffer(plain, RUN_DTYPE, runs, at).copy(),
            plain[end : end + hashes * HASH_SIZE],
        )


@dataclass(frozen=True, slots=True)
class Frame:
    """One encrypted frame. blocks: plain blocks in it (0 in maps, whose stream is bytes)."""

    ciphertext: bytes
    blocks: int
    digest: bytes

    EMPTY_DIGEST = bytes(HASH_SIZE)


EMPTY_FRAME = Frame(b"", 0, Frame.EMPTY_DIGEST)


@dataclass(frozen=True, slots=True)
class Sealer:
    """The key material of one object in the making. Thread-safe: frames may be encrypted in any order."""

    keys: VaultKeys
    salt: bytes
    cipher: AESGCM

    @staticmethod
    def make(keys: VaultKeys, vm_id: uuid.UUID, epoch: int, seq: int) -> Sealer:
        salt = os.urandom(SALT_SIZE)
        return Sealer(keys, salt, object_cipher(keys.data_key, salt, _binding(keys.vault_id, vm_id, epoch, seq)))

    def frame(self, number: int, data: Buffer, blocks: int) -> Frame:
        """Compress (or not, when that does not help), encrypt and hash; the costly part, without the GIL."""
        ciphertext = self.cipher.encrypt(nonce(number), _frame_plain(data), None)
        return Frame(ciphertext, blocks, hashlib.sha256(ciphertext).digest())

    def seal(
        self, identity: Identity, prev: bytes, meta: Meta, frames: Sequence[Frame]
    ) -> tuple[list[bytes], Header]:
        """The object as buffers in order, and its header."""
        sealed_meta = self.cipher.encrypt(nonce(META_FRAME), meta.pack(), None)
        table = np.empty(len(frames), FRAME_DTYPE)
        for row, frame in enumerate(frames):
            table[row] = (len(frame.ciphertext), frame.blocks, np.void(frame.digest))
        header = Header(identity, prev, self.salt, len(sealed_meta), hashlib.sha256(sealed_meta).digest(), table)
        raw = header.pack()
        signature = self.keys.signer.sign(raw)
        return [raw, signature, sealed_meta, *(frame.ciphertext for frame in frames)], header


def _binding(vault_id: uuid.UUID, vm_id: uuid.UUID, epoch: int, seq: int) -> bytes:
    return struct.pack("<16s16sQQ", vault_id.bytes, vm_id.bytes, epoch, seq)


def header_hash(raw_header: bytes) -> bytes:
    """Identifies an object and, through the hashes in the header, all of its content."""
    return hashlib.sha256(raw_header).digest()


@dataclass(frozen=True, slots=True)
class Opened:
    """A verified object. start: its first bytes as far as they were read."""

    key: str
    header: Header
    digest: bytes
    start: bytes
    offsets: NDArray[np.uint64]  # of every frame, and the end
    first_block: NDArray[np.uint64]  # of every frame in the stream, and the end

    def frame_of(self, block: int) -> int:
        """The frame that holds stream block `block`. Raises Damaged for a block that the object does not have."""
        frame = int(np.searchsorted(self.first_block, np.uint64(block), side="right")) - 1
        if frame >= len(self.header.frames):
            raise Damaged("the map names a block that this object does not have", subject=self.key)
        return frame


def read_header(store: ObjectStore, key: str, public_key: bytes, size: int = FIRST_READ) -> Opened:
    """Fetch and verify an object's header: signature, and that it stands at its own key. Raises Damaged."""
    start = store.get_range(key, 0, size)
    length = header_size(start, key)
    if len(start) < length + SIGNATURE_SIZE:
        start = store.get_range(key, 0, length + SIGNATURE_SIZE)
    return verified(start, key, public_key)


def verified(start: bytes, key: str, public_key: bytes) -> Opened:
    """As `read_header`, from bytes at hand that reach at least to the signature's end."""
    length = header_size(start, key)
    raw, signature = start[:length], start[length : length + SIGNATURE_SIZE]
    if len(signature) < SIGNATURE_SIZE:
        raise Damaged("the object is truncated", subject=key)
    if not verify(public_key, signature, raw):
        raise Damaged("the signature does not fit: altered, or made by another vault", subject=key)
    header = parse_header(raw, key)
    if key_of(header.identity) not in (key, None):
        raise Damaged(f"the object belongs at {key_of(header.identity)}", subject=key)
    lengths = header.frames["length"].astype(np.uint64)
    blocks = header.frames["blocks"].astype(np.uint64)
    offsets = np.concatenate(([np.uint64(header.frames_start)], header.frames_start + np.cumsum(lengths)))
    firsts = np.concatenate((np.zeros(1, np.uint64), np.cumsum(blocks)))
    return Opened(key, header, header_hash(raw), start, offsets.astype(np.uint64), firsts.astype(np.uint64))


class ObjectReader:
    """Opens, verifies and decrypts the objects of one vault. Holds no cache; thread-safe."""

    def __init__(self, store: ObjectStore, keys: VaultKeys) -> None:
        self.store = store
        self.keys = keys
        self._public_key = keys.public_key

    def open(self, key: str, expected: bytes | None = None) -> Opened:
        """expected: header hash that the map or the commit names. Raises Damaged, StoreError."""
        opened = read_header(self.store, key, self._public_key)
        if expected is not None and opened.digest != expected:
            raise Damaged("this is not the object that the log names", subject=key)
        return opened

    def meta(self, opened: Opened) -> Meta:
        header = opened.header
        begin, end = header.meta_start, header.frames_start
        sealed = opened.start[begin:end]
        if len(sealed) < header.meta_length:
            sealed = self.store.get_range(opened.key, begin, header.meta_length)
        if hashlib.sha256(sealed).digest() != header.meta_hash:
            raise Damaged("the meta part is damaged", subject=opened.key)
        plain = self._decrypt(self._cipher(header), nonce(META_FRAME), sealed, opened.key, "the meta part")
        return Meta.parse(plain)

    def frames(self, opened: Opened, first: int, count: int) -> list[bytes]:
        """Plain contents of `count` frames from `first` on, with one request. b"" for an empty frame."""
        begin, end = int(opened.offsets[first]), int(opened.offsets[first + count])
        if end <= len(opened.start):
            data = opened.start[begin:end]
        else:
            data = self.store.get_range(opened.key, begin, end - begin)
        if len(data) < end - begin:
            raise Damaged("the object is truncated", subject=opened.key)
        cipher = self._cipher(opened.header)
        view = memoryview(data)
        result = []
        for frame in range(first, first + count):
            lo, hi = int(opened.offsets[frame]) - begin, int(opened.offsets[frame + 1]) - begin
            result.append(self._frame(opened, cipher, frame, view[lo:hi]) if hi > lo else b"")
        return result

    def _frame(self, opened: Opened, cipher: AESGCM, number: int, ciphertext: memoryview) -> bytes:
        plain = self._decrypt(cipher, nonce(number), ciphertext, opened.key, f"frame {number}")
        blocks = int(opened.header.frames["blocks"][number])
        limit = blocks * BLOCK_SIZE if blocks else FRAME_BLOCKS * BLOCK_SIZE
        data = plain[1:] if plain[:1] == _RAW else _decompress(memoryview(plain)[1:], limit)
        if blocks and len(data) != limit:
            raise Damaged(f"frame {number} has the wrong length", subject=opened.key)
        return data

    def _cipher(self, header: Header) -> AESGCM:
        i = header.identity
        return object_cipher(self.keys.data_key, header.salt, _binding(i.vault_id, i.vm_id, i.epoch, i.seq))

    @staticmethod
    def _decrypt(cipher: AESGCM, start: bytes, data: Buffer, key: str, what: str) -> bytes:
        if len(data) < TAG_SIZE:
            raise Damaged(f"{what} is truncated", subject=key)
        try:
            return cipher.decrypt(start, data, None)
        except InvalidTag:
            raise Damaged(f"{what} is damaged", subject=key) from None


def decrypt_from(reader: ObjectReader, opened: Opened, start: int) -> bytes:
    """The byte stream of a map (see `byte_frames`) from byte `start` on, with at most one request."""
    first, skip = divmod(start, _BYTE_FRAME)
    rest = len(opened.header.frames) - first
    return b"".join(reader.frames(opened, first, rest))[skip:] if rest > 0 else b""


def byte_frames(sealer: Sealer, data: bytes) -> list[Frame]:
    """A byte stream cut into frames of 1 MiB, for maps."""
    cuts = range(0, len(data), _BYTE_FRAME)
    return [sealer.frame(number, data[at : at + _BYTE_FRAME], 0) for number, at in enumerate(cuts)]
