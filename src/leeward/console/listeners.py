"""Where the console is reached: the unix socket for the machine's root, and HTTPS where that is configured."""

from __future__ import annotations

import asyncio
import platform
import signal
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import h11
import uvicorn
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from leeward.console.gate import LOCAL_SCOPE
from leeward.domain.errors import BadInput, LeewardError
from leeward.logs import log

# An address may come only after the daemon (a network that is not up yet); the VMs' replication does not wait for it.
_BIND_AGAIN_S = 5.0
_RELOAD_S = 60.0
# How long a peer may take to say what it wants, and how many may be connected: strangers must not use up the files.
_REQUEST_S = 30.0
_MOST_CONNECTIONS = 512
# Bytes; and zlib's level: what more effort would save is less than it costs the others who wait.
_PACKED_FROM, _EFFORT = 1024, 5
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
)


@dataclass(frozen=True, slots=True)
class Https:
    """files: (certificate with its chain, key), asked for again every minute, since both may be renewed."""

    host: str
    port: int
    files: Callable[[], tuple[Path, Path]]


def split_listen(text: str) -> tuple[str, int]:
    """("127.0.0.1", 8443) of "127.0.0.1:8443"; "[::]:8443" for IPv6. Raises BadInput."""
    host, _, port = text.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    if (
        not bare
        or not (port.isascii() and port.isdecimal())
        or int(port) > 65_535
        or (":" in bare) != host.startswith("[")
    ):
        raise BadInput("this is no address to listen on", subject=text, hint="Write it like 127.0.0.1:8443")
    return bare, int(port)


def server_names(host: str, others: Sequence[str]) -> list[str]:
    """What the console's own certificate is for: the names it was told, its machine's, and where it listens."""
    names = {*others, platform.node(), "localhost", "127.0.0.1", "::1", host} - {"", "0.0.0.0", "::"}
    return sorted(names)


def serve(app: ASGIApp, path: Path, https: Https | None) -> None:
    """Until SIGTERM or SIGINT. path: of the unix socket."""
    context = tls_context(https) if https else None  # wrong files are told before anything begins
    asyncio.run(_serve(app, path, https, context))


async def _serve(app: ASGIApp, path: Path, https: Https | None, context: ssl.SSLContext | None) -> None:
    ending = asyncio.Event()
    servers = [_Server(_config(local(app)))]
    with _unix_listener(path) as listener:
        tasks = [asyncio.create_task(servers[0].serve(sockets=[listener]))]
        if https and context:
            servers.append(_Server(_config(public(app), context)))
            tasks.append(asyncio.create_task(_run(servers[1], https, ending)))
            tasks.append(asyncio.create_task(_reload(context, https, ending)))

        def stop() -> None:
            ending.set()
            for server in servers:
                server.force_exit = server.should_exit  # asked twice: open requests are not waited for
                server.should_exit = True

        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop)
        await asyncio.gather(*tasks)


def _config(app: ASGIApp, context: ssl.SSLContext | None = None) -> uvicorn.Config:
    """proxy_headers off: who connects must not be able to say that he is somebody else."""
    return uvicorn.Config(
        app,
        http=_Patient,
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=2,
        limit_concurrency=_MOST_CONNECTIONS if context else None,
        ssl_context_factory=(lambda _, __: context) if context else None,
    )


# --- the unix socket ------------------------------------------------------------------------------------


@contextmanager
def _unix_listener(path: Path) -> Iterator[socket.socket]:
    """Made here, so that it is never open to others than its owner."""
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        path.chmod(0o600)
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)


def local(app: ASGIApp) -> ASGIApp:
    """Who comes through here is the machine's root."""

    async def marked(scope: Scope, receive: Receive, send: Send) -> None:
        scope[LOCAL_SCOPE] = True
        await app(scope, receive, send)

    return marked


# --- HTTPS ----------------------------------------------------------------------------------------------


def public(app: ASGIApp) -> ASGIApp:
    """Who comes through here is nobody until he shows who he is. Pages and lists are packed; not live streams, whose
    events must not wait for others, nor assets, which are already."""
    packed = GZipMiddleware(app, minimum_size=_PACKED_FROM, compresslevel=_EFFORT)

    async def marked(scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                if not any(name.lower() == b"cache-control" for name, _ in headers):
                    headers.append((b"cache-control", b"no-store"))
                message["headers"] = [*headers, *_HEADERS]
            await send(message)

        scope[LOCAL_SCOPE] = False
        await packed(scope, receive, with_headers)

    return marked


def tls_context(https: Https) -> ssl.SSLContext:
    """TLS 1.2 and newer. Raises BadInput for files that cannot be used."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load(context, https.files())
    return context


def _load(context: ssl.SSLContext, files: tuple[Path, Path]) -> None:
    certificate, key = files
    try:
        # A key that asks for a passphrase would make the daemon wait at a terminal that it does not have.
        context.load_cert_chain(certificate, key, password=lambda: "")
    except (OSError, ssl.SSLError) as error:
        raise BadInput(
            f"certificate and key cannot be used: {error}",
            subject=f"{certificate}, {key}",
            hint="See cert and key in the [console] section",
        ) from None


async def _reload(context: ssl.SSLContext, https: Https, ending: asyncio.Event) -> None:
    """Renewed certificates without a restart. New connections get them; a pair that does not fit is not used."""
    known = _stamps(https)
    while not await _set_within(ending, _RELOAD_S):
        try:
            found = await asyncio.to_thread(_stamps, https)
            if found and found != known:
                tls_context(https)  # tried on one that nobody uses: a failed load leaves a context half changed
                _load(context, https.files())
                known = found
                log.info("certificate loaded again")
        except LeewardError as error:
            log.warning("the renewed certificate cannot be used; the old one stays", error=str(error))


def _stamps(https: Https) -> list[tuple[int, int, int]]:
    with suppress(OSError):
        return [(s.st_ino, s.st_mtime_ns, s.st_size) for s in (path.stat() for path in https.files())]
    return []


async def _run(server: _Server, https: Https, ending: asyncio.Event) -> None:
    """From when the address can be had."""
    told = False
    while not ending.is_set():
        try:
            listener = _tcp_listener(https)
        except OSError as error:
            if not told:
                log.warning(
                    "HTTPS cannot be listened for yet", address=f"{https.host}:{https.port}", error=str(error)
                )
            told = True
            await _set_within(ending, _BIND_AGAIN_S)
            continue
        log.info("listening", address=f"https://{https.host}:{https.port}")
        with listener:
            try:
                await server.serve(sockets=[listener])
            except Exception:  # what goes wrong here must not end the rest of the daemon
                log.exception("the HTTPS listener failed")
        return


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
    return event.is_set()


def _tcp_listener(https: Https) -> socket.socket:
    family = socket.AF_INET6 if ":" in https.host else socket.AF_INET
    return socket.create_server((https.host, https.port), family=family, backlog=512)


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Not ours: uvicorn would kill the process by them after the last request, before the agent has stopped."""
        yield


class _Patient(H11Protocol):
    """Waits for a request, but not for ever: one that is sent byte by byte would hold its place for days."""

    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._patience = self.loop.call_later(_REQUEST_S, transport.close)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        waiting = self.conn.their_state in (h11.IDLE, h11.SEND_BODY)
        if waiting and self._patience is None:
            self._patience = self.loop.call_later(_REQUEST_S, self.transport.close)
        elif not waiting and self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def connection_lost(self, exc: Exception | None) -> None:
        if self._patience is not None:
            self._patience.cancel()
        super().connection_lost(exc)
