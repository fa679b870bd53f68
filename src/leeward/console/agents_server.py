"""The listener for agents: TLS 1.3, client certificates of the console's own authority, a thread of its own."""

from __future__ import annotations

import asyncio
import resource
import socket
import ssl
import threading
from asyncio import sslproto
from collections.abc import Sequence
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from leeward.console.agents import Agents
from leeward.console.agents_line import LINE, AgentsLine, Line, Receive, Scope, Send
from leeward.console.authority import Authority
from leeward.domain.errors import BadInput, LeewardError
from leeward.logs import log

# OpenSSL's X509_V_FLAG_NO_CHECK_TIME. Whether an agent's certificate is still good is decided with a reason at each
# request; in the handshake the agent would learn nothing.
NO_CHECK_TIME = 0x200000
# How long a peer may take to say what it wants.
_REQUEST_S = 30.0
# A peer that has lost its power is noticed after about this long.
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 4), (socket.TCP_KEEPINTVL, 2), (socket.TCP_KEEPCNT, 2))
_USER_TIMEOUT_MS = 8_000
_RENEW_EVERY_S = 86_400.0
_FILES = 65_536
_BUFFER = 32 << 10  # two TLS records


class AgentsServer:
    """names: under which agents may reach us, for the certificate. Listens from `start` to `stop`."""

    def __init__(self, agents: Agents, authority: Authority, listen: str, names: Sequence[str]) -> None:
        self._agents = agents
        self._authority = authority
        self._names = [*names, *_own_names()]
        self._host, self._port = split_listen(listen)
        self._socket: socket.socket | None = None
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port that is listened on; of use when port 0 was asked for."""
        return self._port

    def start(self) -> None:
        """Raises LeewardError when nobody can listen there."""
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        try:
            self._socket = socket.create_server((self._host, self._port), family=family, backlog=2048)
        except OSError as error:
            raise LeewardError(
                f"agents cannot be listened for: {error.strerror or error}",
                subject=f"{self._host}:{self._port}",
                hint="See `[console] agents_listen`; another program may have the port",
            ) from None
        self._port = self._socket.getsockname()[1]
        _allow_files()
        _small_buffers()
        context = self._context()
        line = AgentsLine(self._agents, self._authority.ca_pem)
        config = uvicorn.Config(
            line,
            http=_Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",  # failures are logged by the line itself
            access_log=False,
            date_header=False,
            server_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=1,
            ssl_context_factory=lambda _, __: context,
        )
        self._server = _Server(config, line, lambda: self._load(context))
        self._thread = threading.Thread(target=self._run, name="agents-listener", daemon=True)
        self._thread.start()
        log.info("listening for agents", address=f"{self._host}:{self._port}")

    def _run(self) -> None:
        assert self._server is not None
        assert self._socket is not None
        try:
            self._server.run(sockets=[self._socket])
        except Exception:  # the rest of the console goes on; the log tells why agents are not heard
            log.exception("the agents' listener failed")

    def stop(self) -> None:
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(10)
        if self._socket is not None:
            self._socket.close()

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_OPTIONAL  # a host that enrols has none yet
        context.verify_flags |= NO_CHECK_TIME
        context.load_verify_locations(cadata=self._authority.ca_pem.decode())
        context.num_tickets = 0  # connections live long; nobody resumes
        self._load(context)
        return context

    def _load(self, context: ssl.SSLContext) -> None:
        """New connections are shown this certificate from here on."""
        certificate, key = self._authority.server_files(self._names, "agents")
        context.load_cert_chain(certificate, key)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, line: AgentsLine, reload: Any) -> None:
        super().__init__(config)
        self._line = line
        self._reload = reload

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        asyncio.get_running_loop().call_later(_RENEW_EVERY_S, self._renew)

    def _renew(self) -> None:
        try:
            self._reload()
        except LeewardError as error:
            log.warning("the listener's certificate could not be renewed", error=str(error))
        asyncio.get_running_loop().call_later(_RENEW_EVERY_S, self._renew)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._line.close()  # held polls end now, not in 20 s
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()
        await asyncio.sleep(0)  # lets them take note of it


class _Protocol(H11Protocol):
    """Tells the application who is at the other end, and does not wait for ever for a request."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        line = self._line = Line(tls.getpeercert(binary_form=True) if tls else None)
        _watch_peer(transport.get_extra_info("socket"))
        app = self.app

        async def with_line(scope: Scope, receive: Receive, send: Send) -> None:
            scope[LINE] = line
            await app(scope, receive, send)

        self.app = with_line
        self._patience: asyncio.TimerHandle | None = self.loop.call_later(_REQUEST_S, transport.close)

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
        self._line.closed()
        super().connection_lost(exc)


def _watch_peer(sock: Any) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE:
        sock.setsockopt(socket.IPPROTO_TCP, option, value)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MS)


def _allow_files() -> None:
    """Two connections an agent; the usual soft limit of 1,024 would be over at 500 agents."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _small_buffers() -> None:
    """asyncio keeps a read buffer of 256 KiB a TLS connection: half a gigabyte for a thousand agents' lines."""
    if hasattr(sslproto.SSLProtocol, "max_size"):
        sslproto.SSLProtocol.max_size = _BUFFER


def _own_names() -> list[str]:
    return ["localhost", "127.0.0.1", "::1"]


def split_listen(listen: str) -> tuple[str, int]:
    """("0.0.0.0", 8444) of "0.0.0.0:8444", ":8444" or "[::]:8444". Raises BadInput."""
    host, _, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") or "0.0.0.0"
    if not port.isdigit() or int(port) > 65_535:
        raise BadInput("this is no address to listen on", subject=listen, hint="Write it like 0.0.0.0:8444")
    return host, int(port)
