"""The agents' side of the console as an ASGI application: enrolment, tells, held polls.

Plain ASGI and no framework, since a thousand agents ask here. The server puts the peer's certificate, its chain
verified, into the scope as a `Line`; whether it may speak is decided here at each request.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from pydantic import ValidationError

from leeward.console.agents import Agents
from leeward.console.authority import Peer, read_peer
from leeward.console.remote_agent import RemoteAgent
from leeward.domain.errors import BadInput, LeewardError, NotFound, Refused
from leeward.logs import log
from leeward.wire.messages import OLDEST_VERSION, WIRE_VERSION, Message
from leeward.wire.polls import Enrol, Orders, Poll, Renew, Renewed, Tell

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_M = TypeVar("_M", bound=Message)

# Hundreds of VMs with hundreds of disks; and what a stranger may send.
_LARGEST = 16 << 20
_LARGEST_ENROL = 32 << 10
LINE = "leeward.line"


@dataclass(slots=True)
class Line:
    """One TLS connection. certificate: the peer's (DER), None when it showed none."""

    certificate: bytes | None
    peer: Peer | None = None
    remote: RemoteAgent | None = None
    ended: bool = False

    def belongs_to(self, remote: RemoteAgent) -> None:
        if self.remote is None and not self.ended:
            self.remote = remote
            remote.line_opened()

    def closed(self) -> None:
        self.ended = True
        if self.remote is not None:
            self.remote.line_closed()
            self.remote = None


class AgentsLine:
    """authority_pem: told to whoever asks; agents compare it with the fingerprint of their token."""

    def __init__(self, agents: Agents, authority_pem: bytes) -> None:
        self._agents = agents
        self._authority_pem = authority_pem
        self._closing = asyncio.Event()

    def close(self) -> None:
        """Answer every held poll now. In the loop's thread."""
        self._closing.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            kind, body = b"application/json", await self._answer(scope, receive)
            if scope["path"] == "/agent/authority":
                kind = b"application/x-pem-file"
            status = 200
        except LeewardError as error:
            status = _status(error)
            body = json.dumps({"error": {**error.as_dict(), "exit_code": error.exit_code}}).encode()
            kind = b"application/json"
        except Exception:  # a bug of ours costs one answer; the agent asks again
            log.exception("an agent's request failed", path=scope["path"])
            status, kind, body = 500, b"text/plain", b"internal error"
        headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
        if status != 200 or self._closing.is_set():
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope, receive: Receive) -> bytes:
        route = (scope["method"], scope["path"])
        if route == ("GET", "/agent/authority"):
            return self._authority_pem
        if route == ("POST", "/agent/enrol"):
            enrol = _parse(Enrol, await _body(receive, _LARGEST_ENROL))
            return _json(await asyncio.to_thread(self._agents.enrol, enrol))
        line: Line = scope[LINE]
        if route == ("POST", "/agent/tell"):
            remote = self._admit(line)
            told = remote.tell(_parse(Tell, await _body(receive, _LARGEST)))
            line.belongs_to(remote)
            return _json(told)
        if route == ("POST", "/agent/poll"):
            return _json(await self._hold(line, receive))
        if route == ("POST", "/agent/renew"):
            self._admit(line)
            assert line.peer is not None
            request = _parse(Renew, await _body(receive, _LARGEST_ENROL)).request
            certificate = await asyncio.to_thread(self._agents.renew, line.peer, request)
            return _json(Renewed(certificate=certificate.decode()))
        raise NotFound("there is nothing here", subject=f"{route[0]} {route[1]}")

    def _admit(self, line: Line) -> RemoteAgent:
        if line.certificate is None:
            raise Refused("a certificate is needed here", hint="Enrol the host with `leeward agent enrol TOKEN`")
        if line.peer is None:
            line.peer = read_peer(line.certificate)
        return self._agents.admit(line.peer)

    async def _hold(self, line: Line, receive: Receive) -> Orders:
        """Wait until there is something to do, or the poll's time is over, or nobody listens any more."""
        remote = self._admit(line)
        poll = _parse(Poll, await _body(receive, _LARGEST))
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()
        forget = remote.watch(lambda: _in_loop(loop, changed.set))
        gone = loop.create_task(_next(receive))
        closing = loop.create_task(self._closing.wait())
        ends = loop.time() + poll.wait_s
        try:
            while True:
                changed.clear()
                orders = self._orders(line, poll)
                line.belongs_to(remote)
                left = ends - loop.time()
                if not orders.empty or left <= 0 or gone.done() or closing.done():
                    return orders
                woken = loop.create_task(changed.wait())
                await asyncio.wait({woken, gone, closing}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                woken.cancel()
        finally:
            forget()
            gone.cancel()
            closing.cancel()

    def _orders(self, line: Line, poll: Poll) -> Orders:
        remote = self._admit(line)  # each time: it may have been revoked while we waited
        orders = remote.orders(poll)
        consoles = self._agents.consoles()
        if consoles and set(consoles) != set(poll.consoles):
            orders = orders.model_copy(update={"consoles": consoles})
        if poll.place is not None and (place := self._agents.place()) is not None and place.revision > poll.place:
            orders = orders.model_copy(update={"place": place})
        if line.peer is not None and line.peer.due(datetime.now(UTC)):
            return orders.model_copy(update={"renew": True})
        return orders


async def _next(receive: Receive) -> None:
    await receive()


def _in_loop(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    """From any thread; a loop that has ended has nobody waiting."""
    try:
        loop.call_soon_threadsafe(call)
    except RuntimeError:
        log.debug("the agents' listener has ended")


async def _body(receive: Receive, largest: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise BadInput("the request was not complete")
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > largest:
            raise BadInput(f"the request is larger than {largest} bytes")
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def _parse(kind: type[_M], body: bytes) -> _M:
    """Raises Refused for another version's message, BadInput for what is none at all."""
    try:
        message = kind.model_validate_json(body)
        version = getattr(message, "version", None)
    except ValidationError as error:
        version = _version(body)
        if version is None or _understood(version):
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise BadInput(f"the message cannot be read: {where} {first['msg']}".strip()) from None
    if not _understood(version):
        raise Refused(
            f"this agent speaks version {version} of the protocol and the console version {WIRE_VERSION}",
            hint="Bring both to the same version of Leeward",
        )
    return message


def _understood(version: object) -> bool:
    return isinstance(version, int) and OLDEST_VERSION <= version <= WIRE_VERSION


def _version(body: bytes) -> Any:
    try:
        return json.loads(body)["version"]
    except (ValueError, KeyError, TypeError):
        return None


def _json(message: Message) -> bytes:
    return message.model_dump_json().encode()


def _status(error: LeewardError) -> int:
    if isinstance(error, Refused):
        return 403
    if isinstance(error, BadInput):
        return 422
    if isinstance(error, NotFound):
        return 404
    return 503
