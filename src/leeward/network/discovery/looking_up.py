"""Names to addresses and back, in threads of their own: the C library's resolver cannot be interrupted.

The threads are daemons: one that hangs in a dead name server holds up neither a cancelled scan nor the end of the
program.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from ipaddress import ip_address
from typing import Generic, TypeVar

from leeward.domain.errors import NotFound, Unavailable
from leeward.network.discovery.ranges import Address, check
from leeward.network.discovery.signs import printable

Q = TypeVar("Q", bound=Hashable)
A = TypeVar("A")

_THREADS = 8
_POLL_S = 0.02


class LookUps(Generic[Q, A]):
    """Questions asked at any time and answered in the background, a few at once."""

    def __init__(self, ask: Callable[[Q], A]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._waiting: deque[Q] = deque()
        self._threads = 0
        self._answers: dict[Q, A] = {}

    def add(self, question: Q) -> None:
        with self._lock:
            self._waiting.append(question)
            if self._threads < _THREADS:
                self._threads += 1
                threading.Thread(target=self._work, name="look-up", daemon=True).start()

    def answers(self) -> dict[Q, A]:
        """So far."""
        with self._lock:
            return dict(self._answers)

    async def settle(self, within_s: float) -> dict[Q, A]:
        """All answers that come in time."""
        deadline = time.monotonic() + within_s
        # The threads may outlive the loop, so they must not signal it.
        while self._threads and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(_POLL_S)
        return self.answers()

    def stop(self) -> None:
        """Begin no further question."""
        with self._lock:
            self._waiting.clear()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._threads -= 1
                    return
                question = self._waiting.popleft()
            answer = self._ask(question)
            with self._lock:
                self._answers[question] = answer


async def addresses_of(names: Sequence[str], within_s: float) -> dict[str, list[Address]]:
    """Every name's addresses. Raises NotFound, Unavailable, or BadInput for a name of an unusable address."""
    look_ups = LookUps(_addresses)
    try:
        for name in names:
            look_ups.add(name)
        answers = await look_ups.settle(within_s)
    finally:
        look_ups.stop()
    return {name: _usable(name, answers.get(name, socket.EAI_AGAIN)) for name in names}


def name_of(address: Address) -> str:
    """What the name service calls it; "" when it does not know. Blocks for as long as the resolver likes."""
    try:
        name = socket.gethostbyaddr(str(address))[0]
    except (OSError, UnicodeError):
        return ""
    return printable(name)


def _addresses(name: str) -> list[Address] | int:
    """Addresses, or the resolver's error number."""
    try:
        rows = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        return error.errno or socket.EAI_FAIL
    except (OSError, UnicodeError):
        return socket.EAI_NONAME
    return list(dict.fromkeys(ip_address(row[4][0]) for row in rows))


def _usable(name: str, answer: list[Address] | int) -> list[Address]:
    if answer == socket.EAI_AGAIN:
        raise Unavailable("the name could not be looked up now", subject=name, hint="Give its address")
    if isinstance(answer, int):
        raise NotFound("there is no such host name", subject=name, hint="Give its address")
    for address in answer:
        check(address, address, name)
    return answer
