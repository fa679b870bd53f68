"""A machine on one of the lab's networks, as seen by what it can reach."""

from __future__ import annotations

import http.client
import json
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from leeward.domain.errors import Unavailable
from leeward.lab import netns

_POLL_S = 0.05


class _Connection(http.client.HTTPConnection):
    """An HTTP connection whose socket lives in a network namespace."""

    def __init__(self, namespace: str, host: str, port: int, timeout: float) -> None:
        super().__init__(host, port, timeout=timeout)
        self._namespace = namespace
        self._patience = timeout

    def connect(self) -> None:
        self.sock = netns.open_socket(self._namespace)
        self.sock.settimeout(self._patience)
        self.sock.connect((self.host, self.port))


@dataclass(frozen=True, slots=True)
class Client:
    """One namespace; safe from several threads."""

    namespace: str

    def http(self, host: str, path: str = "/", timeout_s: float = 5.0, port: int = 80) -> bytes:
        """Body of a GET. Raises Unavailable for no answer, a broken one, or a status other than 200."""
        connection = _Connection(self.namespace, host, port, timeout_s)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(f"no HTTP answer: {error or type(error).__name__}", subject=host) from error
        finally:
            connection.close()
        if answer.status != 200:
            raise Unavailable(f"HTTP status {answer.status} for {path}", subject=host)
        return body

    def json(self, host: str, path: str = "/", timeout_s: float = 5.0) -> dict[str, Any]:
        """A GET of a guest's appd: the status of "/" or "/reset", or the result of "/burn?MB&RATE" (see appd.c)."""
        body: dict[str, Any] = json.loads(self.http(host, path, timeout_s))
        return body

    def wait(self, host: str, path: str = "/", timeout_s: float = 60.0) -> dict[str, Any]:
        """Poll until the guest answers; its JSON. Raises Unavailable when time runs out."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                return self.json(host, path, timeout_s=0.5)
            except Unavailable as error:
                if time.monotonic() > deadline:
                    raise Unavailable(
                        f"no HTTP answer within {timeout_s:g} s: {error.message}", subject=host
                    ) from error
            time.sleep(_POLL_S)

    def run(self, argv: Sequence[str], timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run a program in the namespace, e.g. ["curl", "10.77.0.10"]; it may fail."""
        words = ["ip", "netns", "exec", self.namespace, *argv]
        return subprocess.run(words, capture_output=True, text=True, timeout=timeout_s, check=False)
