"""A thin binding to libnbd.so.0: just what Leeward needs, callable from every CPython, without holding its lock.

Functions and their contracts: libnbd(3). A handle belongs to one thread at a time.
"""

from __future__ import annotations

import ctypes
import errno
from collections import deque
from collections.abc import Sequence
from ctypes import CFUNCTYPE, POINTER, Structure, c_char_p, c_int, c_int64, c_size_t, c_uint32, c_uint64, c_void_p
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from leeward.domain.errors import HypervisorError, NotFound

_ExtentCallback = CFUNCTYPE(c_int, c_void_p, c_char_p, c_uint64, POINTER(c_uint32), c_size_t, POINTER(c_int))
_CompletionCallback = CFUNCTYPE(c_int, c_void_p, POINTER(c_int))
_Free = CFUNCTYPE(None, c_void_p)


class _Extent(Structure):
    _fields_ = (("callback", _ExtentCallback), ("user_data", c_void_p), ("free", _Free))


class _Completion(Structure):
    _fields_ = (("callback", _CompletionCallback), ("user_data", c_void_p), ("free", _Free))


ALLOCATION = "base:allocation"
# Bits of base:allocation (NBD protocol): 1 = hole, 2 = reads as zero. Bit of qemu:dirty-bitmap: 1 = dirty.
ZERO = 2
DIRTY = 1
# The length of a request for block status or zeros is 32 bits; QEMU wants it aligned to its sectors.
_MAX_STATUS = (1 << 32) - 65536
_MAX_ZERO = 1 << 30
_IN_FLIGHT = 16


@cache
def _library() -> ctypes.CDLL:
    try:
        lib = ctypes.CDLL("libnbd.so.0", use_errno=True)
    except OSError as error:
        raise NotFound(
            "libnbd is not installed", subject="libnbd.so.0", hint="Install the package libnbd0"
        ) from error
    signatures: dict[str, tuple[object, list[object]]] = {
        "nbd_create": (c_void_p, []),
        "nbd_close": (None, [c_void_p]),
        "nbd_get_error": (c_char_p, []),
        "nbd_get_errno": (c_int, []),
        "nbd_set_export_name": (c_int, [c_void_p, c_char_p]),
        "nbd_add_meta_context": (c_int, [c_void_p, c_char_p]),
        "nbd_can_meta_context": (c_int, [c_void_p, c_char_p]),
        "nbd_connect_unix": (c_int, [c_void_p, c_char_p]),
        "nbd_get_size": (c_int64, [c_void_p]),
        "nbd_pread": (c_int, [c_void_p, c_void_p, c_size_t, c_uint64, c_uint32]),
        "nbd_pwrite": (c_int, [c_void_p, c_void_p, c_size_t, c_uint64, c_uint32]),
        "nbd_zero": (c_int, [c_void_p, c_uint64, c_uint64, c_uint32]),
        "nbd_flush": (c_int, [c_void_p, c_uint32]),
        "nbd_aio_pread": (c_int64, [c_void_p, c_void_p, c_size_t, c_uint64, _Completion, c_uint32]),
        "nbd_aio_command_completed": (c_int, [c_void_p, c_uint64]),
        "nbd_poll": (c_int, [c_void_p, c_int]),
        "nbd_block_status": (c_int, [c_void_p, c_uint64, c_uint64, _Extent, c_uint32]),
        "nbd_shutdown": (c_int, [c_void_p, c_uint32]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib


def _error(what: str, subject: str) -> HypervisorError:
    """The thread's last libnbd error as one of ours."""
    lib = _library()
    text = (lib.nbd_get_error() or b"").decode(errors="replace")
    number = lib.nbd_get_errno()
    name = errno.errorcode.get(number, str(number))
    return HypervisorError(f"{what}: {text} ({name})", subject=subject)


class Nbd:
    """One connection to one export over a unix socket. Errors: HypervisorError.

    contexts: meta contexts to ask for ("base:allocation", "qemu:dirty-bitmap:NAME").
    """

    def __init__(self, socket: Path, export: str, contexts: Sequence[str] = ()) -> None:
        self._lib = _library()
        self._subject = f"{export} at {socket}"
        self._contexts = tuple(contexts)
        self._handle: int | None = self._lib.nbd_create()
        if not self._handle:
            raise _error("no NBD handle", self._subject)
        try:
            self._check(self._lib.nbd_set_export_name(self._handle, export.encode()), "export name")
            for context in contexts:
                self._check(self._lib.nbd_add_meta_context(self._handle, context.encode()), "meta context")
            self._check(self._lib.nbd_connect_unix(self._handle, str(socket).encode()), "cannot connect")
            self.size = int(self._lib.nbd_get_size(self._handle))
            self._require(contexts)
        except BaseException:
            self.close()
            raise

    def _require(self, contexts: Sequence[str]) -> None:
        for context in contexts:
            if self._lib.nbd_can_meta_context(self._handle, context.encode()) != 1:
                raise HypervisorError(f"the server does not offer {context}", subject=self._subject)

    def _check(self, result: int, what: str) -> int:
        if result == -1:
            raise _error(what, self._subject)
        return result

    def close(self) -> None:
        """Drop the connection. Idempotent."""
        handle, self._handle = self._handle, None
        if handle:
            self._lib.nbd_close(handle)

    def __enter__(self) -> Nbd:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def pread(self, length: int, offset: int) -> bytes:
        buffer = bytearray(length)
        self.read_into([(offset, memoryview(buffer))])
        return bytes(buffer)

    def read_into(self, pieces: Sequence[tuple[int, memoryview]]) -> None:
        """Fill each writable view from its byte offset; up to 16 requests are in flight together."""
        if len(pieces) == 1:
            offset, view = pieces[0]
            self._check(self._lib.nbd_pread(self._handle, _address(view), len(view), offset, 0), "read failed")
            return
        waiting: deque[int] = deque()
        null = _Completion()
        for offset, view in pieces:
            while len(waiting) >= _IN_FLIGHT:
                self._finish(waiting.popleft())
            cookie = self._lib.nbd_aio_pread(self._handle, _address(view), len(view), offset, null, 0)
            waiting.append(self._check(cookie, "read failed"))
        while waiting:
            self._finish(waiting.popleft())

    def pwrite(self, view: memoryview, offset: int) -> None:
        """Write a writable view (only its address is taken, nothing is written to it). Not durable before `flush`."""
        self._check(self._lib.nbd_pwrite(self._handle, _address(view), len(view), offset, 0), "write failed")

    def zero(self, length: int, offset: int) -> None:
        """Make a range read as zeros; the server may let go of its space."""
        while length:
            some = min(length, _MAX_ZERO)
            self._check(self._lib.nbd_zero(self._handle, some, offset, 0), "zeroing failed")
            length, offset = length - some, offset + some

    def flush(self) -> None:
        """Make durable what was written, also over other connections to the same qemu-nbd."""
        self._check(self._lib.nbd_flush(self._handle, 0), "flush failed")

    def _finish(self, cookie: int) -> None:
        """Wait for one request. After an error the connection must be closed: others may still be under way."""
        while not self._check(self._lib.nbd_aio_command_completed(self._handle, cookie), "read failed"):
            self._check(self._lib.nbd_poll(self._handle, -1), "connection lost")

    def status(self) -> dict[str, NDArray[np.uint64]]:
        """For each meta context an array of rows (start, length, flags) in bytes that covers the whole export."""
        found: dict[str, list[NDArray[np.uint64]]] = {context: [] for context in self._contexts}
        reached = dict.fromkeys(self._contexts, 0)

        def extent(_: object, context: bytes, offset: int, entries: object, count: int, error: object) -> int:
            name = context.decode()
            pairs = np.ctypeslib.as_array(entries, (count,)).astype(np.uint64).reshape(-1, 2)
            ends = np.cumsum(pairs[:, 0], dtype=np.uint64) + np.uint64(offset)
            starts = ends - pairs[:, 0]
            found[name].append(np.stack((starts, pairs[:, 0], pairs[:, 1]), axis=1))
            reached[name] = int(ends[-1])
            return 0

        callback = _Extent(callback=_ExtentCallback(extent))
        at = 0
        while at < self.size:
            length = min(self.size - at, _MAX_STATUS)
            self._check(self._lib.nbd_block_status(self._handle, length, at, callback, 0), "block status failed")
            # The server may answer for less than was asked, and for different lengths a context; go on from
            # the shortest. What another context already told beyond it is cut below.
            progress = min(reached.values())
            if progress <= at:
                raise HypervisorError("block status makes no progress", subject=self._subject)
            at = progress
        return {name: _clean(rows, self.size) for name, rows in found.items()}


def _clean(rows: list[NDArray[np.uint64]], size: int) -> NDArray[np.uint64]:
    """Rows of several answers put together, overlaps cut: later answers repeat what was told beyond `at`."""
    result: list[tuple[int, int, int]] = []
    end = 0
    for start, length, flags in np.concatenate(rows).tolist() if rows else []:
        stop = min(start + length, size)
        if stop > end:
            begin = max(start, end)
            result.append((begin, stop - begin, flags))
            end = stop
    return np.array(result, np.uint64).reshape(-1, 3)


def _address(view: memoryview) -> int:
    """Address of a writable buffer; the caller keeps the view alive for as long as the address is used."""
    return ctypes.addressof(ctypes.c_char.from_buffer(view))
