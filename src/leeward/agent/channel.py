"""One connection to the console, kept alive; one question at a time.

Everything that is asked is harmless to repeat, so a question that failed on a connection that had been used before is
asked once more on a new one: the console may have closed the old one while nothing was said.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
from collections.abc import Callable

from leeward.domain.errors import LeewardError, Refused, Unavailable
from leeward.wire.tokens import split_address

CONNECT_S = 10.0
# A console that has lost its power is noticed after about this long, also while a poll is held.
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 4), (socket.TCP_KEEPINTVL, 2), (socket.TCP_KEEPCNT, 2))
_USER_TIMEOUT_MS = 8_000
_ANSWER_LIMIT = 64 << 20


class Refusal(Refused):
    """The console has refused us: another try will not help before a person has done something."""


class CutOff(Unavailable):
    """A new connection came about and was ended before anything was answered: so ends a certificate that is not
    taken (asyncio's TLS does not say why), but also a console that is just being killed."""


class Channel:
    """address: https://host:port. context: asked for at each new connection. connect_s: how long that may take."""

    def __init__(self, address: str, context: Callable[[], ssl.SSLContext], connect_s: float = CONNECT_S) -> None:
        self._address = address
        self._host, self._port = split_address(address)
        self._context = context
        self._connect_s = connect_s
        self._connection: http.client.HTTPSConnection | None = None
        self._ended = False

    def ask(self, method: str, path: str, body: bytes, timeout_s: float) -> bytes:
        """Raises Refusal, Unavailable."""
        used = self._connection is not None
        try:
            return self._ask(method, path, body, timeout_s)
        except (OSError, http.client.HTTPException) as error:
            shaken = self._connection is not None
            self.close()
            if not used or isinstance(error, TimeoutError):
                raise self._explained(error, shaken=shaken and not used) from None
        return self.ask(method, path, body, timeout_s)

    def _ask(self, method: str, path: str, body: bytes, timeout_s: float) -> bytes:
        connection = self._connection or self._connect()
        self._connection = connection
        assert connection.sock is not None
        connection.sock.settimeout(timeout_s)
        connection.request(method, path, body or None, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        if (answer.length or 0) > _ANSWER_LIMIT:
            raise http.client.HTTPException(f"the answer is larger than {_ANSWER_LIMIT} bytes")
        content = answer.read()  # not with a size: a short answer must raise
        if answer.will_close:
            self.close()
        if answer.status == 200:
            return content
        raise _told(answer.status, content, self._address)

    def _connect(self) -> http.client.HTTPSConnection:
        if self._ended:
            raise ConnectionAbortedError("we are stopping")
        connection = http.client.HTTPSConnection(
            self._host, self._port, context=self._context(), timeout=self._connect_s
        )
        connection.connect()
        sock = connection.sock
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MS)
        return connection

    def _explained(self, error: Exception, *, shaken: bool = False) -> LeewardError:
        if isinstance(error, ssl.SSLCertVerificationError):
            return Refusal(
                f"whoever answers there is not the console that this host enrolled with ({error.verify_message})",
                subject=self._address,
                hint="If the console was set up anew, enrol this host again with a new token",
            )
        kind = CutOff if shaken else Unavailable
        return kind(f"the console cannot be reached: {error}", subject=self._address)

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def interrupt(self) -> None:
        """End for good, from another thread: a question that waits fails as if the console had gone."""
        self._ended = True
        connection = self._connection
        sock = connection.sock if connection else None
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


def _told(status: int, content: bytes, address: str) -> LeewardError:
    try:
        told = json.loads(content)["error"]
        message, subject, hint = str(told["message"]), str(told["subject"]), str(told["hint"])
    except (ValueError, KeyError, TypeError):
        return Unavailable(f"the console failed (HTTP {status})", subject=address)
    kind = Refusal if 400 <= status < 500 else Unavailable
    return kind(message, subject=subject or address, hint=hint)
