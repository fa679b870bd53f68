"""As much of libvirt's remote protocol as it takes to know a libvirt daemon by its own words. Pure.

A message is a 32-bit length that counts itself, six 32-bit header words (program, version, procedure, type, serial,
status) and the payload; all of it is XDR (RFC 4506), big-endian. The numbers are fixed by libvirt's
remote_protocol.x and never change.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

_PROGRAM = 0x2000_8086
_VERSION = 1
_CALL, _REPLY = 0, 1
_OK, _ERROR = 0, 1
_HEADER = struct.Struct(">7I")
_LENGTH = struct.Struct(">I")

OPEN = 1
CLOSE = 2
GET_VERSION = 4
GET_HOSTNAME = 59
AUTH_LIST = 66
GET_LIB_VERSION = 157

_AUTH_NAMES = {0: "none", 1: "sasl", 2: "polkit"}
_MOST_AUTHS = 20  # REMOTE_AUTH_TYPE_LIST_MAX
_READ_ONLY = 1  # VIR_CONNECT_RO

LENGTH_SIZE = _LENGTH.size
# Answers to what we ask are tens of bytes, an error a few hundred.
_LONGEST = 16 << 10


class NotLibvirt(Exception):
    """These bytes are not an answer of a libvirt daemon."""


class Declined(Exception):
    """The daemon answered with an error; its text."""


def call(procedure: int, serial: int, payload: bytes = b"") -> bytes:
    size = _HEADER.size + len(payload)
    return _HEADER.pack(size, _PROGRAM, _VERSION, procedure, _CALL, serial, _OK) + payload


def open_payload(uri: str) -> bytes:
    """Arguments of OPEN, read-only: nothing that follows can change anything."""
    name = uri.encode()
    return struct.pack(">II", 1, len(name)) + name + bytes(-len(name) % 4) + struct.pack(">I", _READ_ONLY)


def rest_length(start: bytes) -> int:
    """How many bytes follow the length word. Raises NotLibvirt."""
    (size,) = _LENGTH.unpack(start)
    if not _HEADER.size <= size <= _LONGEST:
        raise NotLibvirt(f"a message of {size} bytes")
    return int(size) - _LENGTH.size


def payload_of(rest: bytes, procedure: int, serial: int) -> bytes:
    """The payload of the answer to a call. rest: all that follows the length word. Raises NotLibvirt, Declined."""
    program, version, *answered = struct.unpack_from(">6I", rest)
    payload = rest[_HEADER.size - _LENGTH.size :]
    if (program, version) != (_PROGRAM, _VERSION) or answered[:3] != [procedure, _REPLY, serial]:
        raise NotLibvirt("an answer to something else")
    if answered[3] == _ERROR:
        raise Declined(_Reader(payload).error_text())
    if answered[3] != _OK:
        raise NotLibvirt(f"status {answered[3]}")
    return payload


def auth_names(payload: bytes) -> tuple[str, ...]:
    reader = _Reader(payload)
    count = reader.word()
    if count > _MOST_AUTHS:
        raise NotLibvirt(f"{count} ways to sign in")
    return tuple(_AUTH_NAMES.get(number, f"type {number}") for number in (reader.word() for _ in range(count)))


def version_of(payload: bytes) -> tuple[int, int, int]:
    """libvirt writes 9.0.0 as 9000000."""
    number = _Reader(payload).long()
    return number // 1_000_000, number // 1_000 % 1_000, number % 1_000


def text_of(payload: bytes) -> str:
    return _Reader(payload).text()


@dataclass(slots=True)
class _Reader:
    """XDR from front to back. Raises NotLibvirt where the bytes end too early."""

    data: bytes
    at: int = 0

    def word(self) -> int:
        return int(self._unpack(">I", 4))

    def long(self) -> int:
        return int(self._unpack(">Q", 8))

    def text(self) -> str:
        size = self.word()
        end = self.at + size
        if end > len(self.data):
            raise NotLibvirt("a text that is longer than its message")
        raw = self.data[self.at : end]
        self.at = end + -size % 4
        return raw.decode("utf-8", errors="replace")

    def error_text(self) -> str:
        """remote_error: code, domain, and a message that may be absent."""
        self.word()
        self.word()
        return self.text() if self.word() else "an error without a text"

    def _unpack(self, form: str, size: int) -> int:
        try:
            (value,) = struct.unpack_from(form, self.data, self.at)
        except struct.error:
            raise NotLibvirt("a message that ends too early") from None
        self.at += size
        return int(value)
