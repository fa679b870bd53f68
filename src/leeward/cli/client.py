"""The daemon as the command line sees it: found, started where that is allowed, asked."""

from __future__ import annotations

import fcntl
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from leeward.cli.asking import Asker, without_number
from leeward.cli.config import Settings
from leeward.domain.errors import Unavailable

_START_S = 30.0


class Client(Asker):
    """This machine's daemon."""

    def __init__(self, settings: Settings, timeout_s: float = 120.0) -> None:
        self._settings = settings
        # Not a word of TLS on this socket; without `verify` all root certificates would be loaded for it, for 0.1 s.
        transport = httpx.HTTPTransport(uds=str(settings.socket), verify=False)
        self._http = httpx.Client(transport=transport, base_url="http://leeward/api/v1", timeout=timeout_s)

    def _send(self, method: str, path: str, **more: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, **more)
        except httpx.TransportError:
            self._start()
        try:
            return self._http.request(method, path, **more)
        except httpx.TransportError as error:
            raise Unavailable(
                f"the daemon does not answer: {without_number(error)}", subject=str(self._settings.socket)
            ) from None

    def _where(self) -> str:
        return f"See {self._settings.daemon.state / 'daemon.log'}"

    def _alive(self) -> bool:
        try:
            return self._http.get("/health", timeout=5).is_success
        except httpx.TransportError:
            return False

    def _start(self) -> None:
        """Start the daemon in the background where the configuration allows it; safe when others do the same."""
        settings = self._settings
        if not settings.daemon.autostart:
            named = f" --config {shlex.quote(str(settings.path))}" if settings.path else ""
            raise Unavailable(
                "the Leeward daemon does not run",
                subject=str(settings.socket),
                hint=f"Start it with `leeward{named} serve`",
            )
        with self._start_lock():
            if self._alive():
                return
            log = settings.daemon.state / "daemon.log"
            command = [sys.executable, "-m", "leeward.cli.main"]
            if settings.path:
                command += ["--config", str(settings.path)]
            log.touch(mode=0o600)
            with log.open("ab") as output:
                process = subprocess.Popen(
                    [*command, "serve", "--embedded"],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                    cwd="/",
                )
            ends = time.monotonic() + _START_S
            while not self._alive():
                if process.poll() is not None or time.monotonic() > ends:
                    lines = log.read_text(errors="replace").strip().splitlines()
                    raise Unavailable(
                        f"the daemon did not start: {lines[-1] if lines else 'it said nothing'}", subject=str(log)
                    )
                time.sleep(0.05)

    @contextmanager
    def _start_lock(self) -> Iterator[None]:
        state = self._settings.daemon.state
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (state / "start.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
