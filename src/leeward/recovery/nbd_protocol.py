"""The part of the NBD protocol that a read-only server speaks: numbers, and messages as bytes. Pure.

Source: the protocol's specification (doc/proto.md of the NBD project). All integers are big-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

GREETING = b"NBDMAGICIHAVEOPT" + struct.pack(">H", 3)  # fixed newstyle, no zeroes
OPTION_MAGIC = b"IHAVEOPT"
CLIENT_NO_ZEROES = 2
REQUEST_MAGIC = 0x25609513
MAX_PAYLOAD = 32 << 20  # the specification's portable maximum
MAX_OPTION = 65536

# has flags, read only, may be opened by several connections, supports CACHE
TRANSMISSION_FLAGS = 0x001 | 0x002 | 0x100 | 0x400
CONTEXT = b"base:allocation"
CONTEXT_ID = 1
HOLE_AND_ZERO = 3
_MIN_BLOCK, _PREFERRED_BLOCK = 1, 65536


class Option(IntEnum):
    EXPORT_NAME = 1
    ABORT = 2
    LIST = 3
    INFO = 6
    GO = 7
    STRUCTURED_REPLY = 8
    LIST_META_CONTEXT = 9
    SET_META_CONTEXT = 10


class Reply(IntEnum):
    ACK = 1
    SERVER = 2
    INFO = 3
    META_CONTEXT = 4
    UNSUPPORTED = 0x80000001
    INVALID = 0x80000003
    UNKNOWN = 0x80000006
    TOO_BIG = 0x80000009


class Command(IntEnum):
    READ = 0
    WRITE = 1
    DISCONNECT = 2
    FLUSH = 3
    TRIM = 4
    CACHE = 5
    WRITE_ZEROES = 6
    BLOCK_STATUS = 7


class Error(IntEnum):
    PERM = 1
    IO = 5
    INVALID = 22


REQUEST_SIZE = 28
ONE_EXTENT = 8  # request flag: a block status reply with one extent only


@dataclass(frozen=True, slots=True)
class Request:
    flags: int
    command: int
    cookie: int
    offset: int
    length: int

    @staticmethod
    def parse(raw: bytes) -> Request | None:
        """None when the magic is wrong: the stream is out of step and must be closed."""
        magic, flags, command, cookie, offset, length = struct.unpack(">IHHQQI", raw)
        return Request(flags, command, cookie, offset, length) if magic == REQUEST_MAGIC else None


def option_reply(option: int, reply: Reply, data: bytes = b"") -> bytes:
    return struct.pack(">QIII", 0x3E889045565A9, option, reply, len(data)) + data


def export_info(size: int) -> bytes:
    """NBD_INFO_EXPORT."""
    return struct.pack(">HQH", 0, size, TRANSMISSION_FLAGS)


def block_size_info() -> bytes:
    """NBD_INFO_BLOCK_SIZE: minimum, preferred, maximum."""
    return struct.pack(">HIII", 3, _MIN_BLOCK, _PREFERRED_BLOCK, MAX_PAYLOAD)


def legacy_export(size: int, no_zeroes: bool) -> bytes:
    """Answer to EXPORT_NAME, which has no header."""
    return struct.pack(">QH", size, TRANSMISSION_FLAGS) + (b"" if no_zeroes else bytes(124))


def parse_go(data: bytes) -> str | None:
    """Export name of an INFO or GO option; None when it is malformed."""
    if len(data) < 6:
        return None
    (length,) = struct.unpack_from(">I", data)
    name = data[4 : 4 + length]
    if len(name) < length or len(data) < 4 + length + 2:
        return None
    return name.decode(errors="replace")


def parse_contexts(data: bytes) -> tuple[str, list[bytes]] | None:
    """(export name, queries) of a meta context option; None when it is malformed."""
    try:
        (length,) = struct.unpack_from(">I", data)
        name = data[4 : 4 + length].decode(errors="replace")
        (count,) = struct.unpack_from(">I", data, 4 + length)
        at, queries = 8 + length, []
        for _ in range(min(count, 1024)):
            (size,) = struct.unpack_from(">I", data, at)
            queries.append(data[at + 4 : at + 4 + size])
            at += 4 + size
    except struct.error:
        return None
    return (name, queries) if at == len(data) else None


def simple_reply(cookie: int, error: int = 0) -> bytes:
    return struct.pack(">IIQ", 0x67446698, error, cookie)


def _chunk(cookie: int, kind: int, length: int) -> bytes:
    return struct.pack(">IHHQI", 0x668E33EF, 1, kind, cookie, length)


def data_header(cookie: int, offset: int, length: int) -> bytes:
    """Head of a structured read reply in one chunk; the data follows."""
    return _chunk(cookie, 1, length + 8) + struct.pack(">Q", offset)


def hole_reply(cookie: int, offset: int, length: int) -> bytes:
    """A structured read reply that says: all zeros."""
    return _chunk(cookie, 2, 12) + struct.pack(">QI", offset, length)


def error_reply(cookie: int, error: int, text: str = "") -> bytes:
    message = text.encode()[:4000]
    return _chunk(cookie, 0x8001, 6 + len(message)) + struct.pack(">IH", error, len(message)) + message


def status_reply(cookie: int, spans: Iterable[tuple[int, bool]]) -> bytes:
    """spans: (length in bytes, is data)."""
    body = struct.pack(">I", CONTEXT_ID)
    body += b"".join(struct.pack(">II", length, 0 if data else HOLE_AND_ZERO) for length, data in spans)
    return _chunk(cookie, 5, len(body)) + body
