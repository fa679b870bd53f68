"""A read-only NBD server over a unix socket for the disks of one recovery point.

One promise matters more than all others: while the vault is away a read is *held*, never failed. QEMU then waits,
the guest sees a slow disk, and nothing breaks. Only damage is an I/O error, since waiting does not mend it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from leeward.domain.errors import LeewardError, Unavailable
from leeward.logs import log
from leeward.ports.blocks import DiskImage
from leeward.recovery import nbd_protocol as nbd
from leeward.recovery.nbd_protocol import Command, Error, Option, Reply, Request

# Requests of one connection under way at once; QEMU itself stops at 16. Bounds memory together with MAX_PAYLOAD.
_PARALLEL = 32
_RETRY_S = (0.2, 0.5, 1.0, 2.0)
# Extents beyond this in one block status answer help nobody.
_MAX_EXTENTS = 4096


class NbdServer:
    """exports: by name. Serve with `serve_at`; every connection may use any export."""

    def __init__(self, exports: Mapping[str, DiskImage], threads: int = 8) -> None:
        self._exports = exports
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="read")
        self._connections: set[asyncio.Task[None]] = set()

    async def serve_at(self, socket: Path, stop: asyncio.Event, uid: int = -1, gid: int = -1) -> None:
        """Listen at `socket` until `stop`. The path appears (or is replaced) only once connections are taken.

        uid and gid: whom the socket is given to, -1: nobody else than us.
        """
        draft = socket.with_name(socket.name + ".new")
        draft.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._accept, draft, limit=1 << 20)
        draft.chmod(0o600)
        os.chown(draft, uid, gid)
        draft.replace(socket)
        try:
            await stop.wait()
        finally:
            server.close()
            for connection in list(self._connections):
                connection.cancel()
            self._pool.shutdown(wait=False, cancel_futures=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            session = _Session(self._exports, self._pool, reader, writer)
            if await session.negotiate():
                await session.transmit()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the client went away, or we are stopping
        finally:
            self._connections.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()


class _Session:
    """One connection."""

    def __init__(
        self,
        exports: Mapping[str, DiskImage],
        pool: ThreadPoolExecutor,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._exports = exports
        self._pool = pool
        self._reader = reader
        self._writer = writer
        self._disk: DiskImage | None = None
        self._structured = False
        self._context_for = ""
        self._sending = asyncio.Lock()

    # --- negotiation --------------------------------------------------------------------------------

    async def negotiate(self) -> bool:
        """True when an export was chosen and transmission begins."""
        self._writer.write(nbd.GREETING)
        (flags,) = struct.unpack(">I", await self._reader.readexactly(4))
        while True:
            magic, option, length = struct.unpack(">8sII", await self._reader.readexactly(16))
            if magic != nbd.OPTION_MAGIC:
                return False
            if length > nbd.MAX_OPTION:
                return False
            data = await self._reader.readexactly(length)
            if option == Option.EXPORT_NAME:
                self._disk = self._exports.get(data.decode(errors="replace"))
                if self._disk is None:
                    return False  # this old option has no way to answer with an error
                self._writer.write(nbd.legacy_export(self._disk.size, bool(flags & nbd.CLIENT_NO_ZEROES)))
                await self._writer.drain()
                return True
            if option == Option.ABORT:
                self._writer.write(nbd.option_reply(option, Reply.ACK))
                await self._writer.drain()
                return False
            chosen = self._answer(option, data)
            await self._writer.drain()
            if chosen:
                return True

    def _answer(self, option: int, data: bytes) -> bool:
        """Write the answer to one option; True for a GO that succeeded."""
        write = self._writer.write
        if option == Option.LIST:
            for name in self._exports:
                raw = name.encode()
                write(nbd.option_reply(option, Reply.SERVER, struct.pack(">I", len(raw)) + raw))
            write(nbd.option_reply(option, Reply.ACK))
        elif option in (Option.INFO, Option.GO):
            return self._go(option, data)
        elif option == Option.STRUCTURED_REPLY:
            self._structured = True
            write(nbd.option_reply(option, Reply.ACK))
        elif option in (Option.LIST_META_CONTEXT, Option.SET_META_CONTEXT):
            self._contexts(option, data)
        else:
            write(nbd.option_reply(option, Reply.UNSUPPORTED))
        return False

    def _go(self, option: int, data: bytes) -> bool:
        write = self._writer.write
        name = nbd.parse_go(data)
        if name is None:
            write(nbd.option_reply(option, Reply.INVALID))
            return False
        disk = self._exports.get(name)
        if disk is None:
            write(nbd.option_reply(option, Reply.UNKNOWN, f"there is no disk {name}".encode()))
            return False
        write(nbd.option_reply(option, Reply.INFO, nbd.export_info(disk.size)))
        write(nbd.option_reply(option, Reply.INFO, nbd.block_size_info()))
        write(nbd.option_reply(option, Reply.ACK))
        if option == Option.GO:
            self._disk = disk
            if self._context_for != name:
                self._context_for = ""
            return True
        return False

    def _contexts(self, option: int, data: bytes) -> None:
        write = self._writer.write
        parsed = nbd.parse_contexts(data)
        if parsed is None or not self._structured:
            write(nbd.option_reply(option, Reply.INVALID))
            return
        name, queries = parsed
        if name not in self._exports:
            write(nbd.option_reply(option, Reply.UNKNOWN))
            return
        listing = option == Option.LIST_META_CONTEXT
        wanted = (listing and not queries) or nbd.CONTEXT in queries or (listing and b"base:" in queries)
        if wanted:
            body = struct.pack(">I", nbd.CONTEXT_ID) + nbd.CONTEXT
            write(nbd.option_reply(option, Reply.META_CONTEXT, body))
        if not listing:
            self._context_for = name if wanted else ""
        write(nbd.option_reply(option, Reply.ACK))

    # --- transmission -------------------------------------------------------------------------------

    async def transmit(self) -> None:
        """Serve requests until the client disconnects; they are answered as they get ready."""
        room = asyncio.Semaphore(_PARALLEL)
        pending: set[asyncio.Task[None]] = set()
        try:
            while request := await self._next():
                await room.acquire()
                task = asyncio.create_task(self._serve(request, room))
                pending.add(task)
                task.add_done_callback(pending.discard)
        finally:
            # A client that is gone waits for nothing: reads held for an absent vault must not keep us.
            for task in pending:
                task.cancel()

    async def _next(self) -> Request | None:
        """The next request; None when the client is done or out of step."""
        request = Request.parse(await self._reader.readexactly(nbd.REQUEST_SIZE))
        if request is None or request.command == Command.DISCONNECT:
            return None
        if request.command == Command.WRITE:
            if request.length > nbd.MAX_PAYLOAD:
                return None
            await self._reader.readexactly(request.length)
        return request

    async def _serve(self, request: Request, room: asyncio.Semaphore) -> None:
        try:
            reply = await self._reply(request)
            async with self._sending:
                self._writer.writelines(reply)
                await self._writer.drain()
        except ConnectionError:
            self._writer.close()
        finally:
            room.release()

    async def _reply(self, request: Request) -> list[bytes]:
        disk = self._disk
        assert disk is not None
        inside = request.length > 0 and request.offset + request.length <= disk.size
        match request.command:
            case Command.READ:
                if not inside or request.length > nbd.MAX_PAYLOAD:
                    return [self._failure(request, Error.INVALID)]
                return await self._read(disk, request)
            case Command.BLOCK_STATUS:
                if not inside or not self._context_for:
                    return [self._failure(request, Error.INVALID)]
                spans = disk.allocation(request.offset, request.length)
                limit = 1 if request.flags & nbd.ONE_EXTENT else _MAX_EXTENTS
                return [nbd.status_reply(request.cookie, spans[:limit])]
            case Command.CACHE:
                if not inside:
                    return [self._failure(request, Error.INVALID)]
                loop = asyncio.get_running_loop()
                await loop.run_in_executor(self._pool, disk.prefetch, request.offset, request.length)
                return [nbd.simple_reply(request.cookie)]
            case Command.FLUSH:
                return [nbd.simple_reply(request.cookie)]
            case Command.WRITE | Command.TRIM | Command.WRITE_ZEROES:
                return [self._failure(request, Error.PERM)]
        return [self._failure(request, Error.INVALID)]

    async def _read(self, disk: DiskImage, request: Request) -> list[bytes]:
        # Hydration reads all of a disk: holes need not be sent as zeros.
        if self._structured and disk.allocation(request.offset, request.length) == [(request.length, False)]:
            return [nbd.hole_reply(request.cookie, request.offset, request.length)]
        try:
            data = await self._held_read(disk, request.offset, request.length)
        except LeewardError as error:
            log.error("a read failed for good", disk=disk.name, offset=request.offset, error=str(error))
            return [self._failure(request, Error.IO, str(error))]
        if self._structured:
            return [nbd.data_header(request.cookie, request.offset, len(data)), data]
        return [nbd.simple_reply(request.cookie), data]

    async def _held_read(self, disk: DiskImage, offset: int, length: int) -> bytes:
        """Read, and while the vault is away wait and try again, for as long as it takes."""
        loop = asyncio.get_running_loop()
        attempt = 0
        while True:
            try:
                return await loop.run_in_executor(self._pool, disk.read, offset, length)
            except Unavailable as error:
                if attempt == 0:
                    log.warning("the vault is away; reads are held", disk=disk.name, error=str(error))
                await asyncio.sleep(_RETRY_S[min(attempt, len(_RETRY_S) - 1)])
                attempt += 1

    def _failure(self, request: Request, error: Error, text: str = "") -> bytes:
        if self._structured and request.command in (Command.READ, Command.BLOCK_STATUS):
            return nbd.error_reply(request.cookie, error, text)
        return nbd.simple_reply(request.cookie, error)
