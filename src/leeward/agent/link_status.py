"""The line to the console, for whoever asks on this host: a small file that the running agent keeps up to date."""

from __future__ import annotations

import json
import os
import threading
import time
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Any

from leeward.recovery.supervisor import process_start
from leeward.wire.messages import AgentReport
from leeward.wire.translate import utc

_FILE = "link.json"
_NOTE_S = 2.0


class LinkState(StrEnum):
    UNENROLLED = "unenrolled"  # no console has been named yet
    CONNECTING = "connecting"
    CONNECTED = "connected"
    UNAVAILABLE = "unavailable"  # the console does not answer
    REFUSED = "refused"  # it answers, and wants nothing of us


class LinkStatus:
    """Written when something changes; no more durable than it need be, since the next run writes it anew."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / _FILE
        self._lock = threading.Lock()
        self._line: tuple[str, LinkState, str] = ("", LinkState.CONNECTING, "not begun")
        self._told = self._line
        self._since = utc(time.time_ns())
        self._report: AgentReport | None = None
        self._written = float("-inf")

    @property
    def state(self) -> LinkState:
        return self._line[1]

    def news(self) -> bool:
        """Whether something else is shown than when this was asked last."""
        told, self._told = self._told, self._line
        return self._line != told

    def show(self, console: str, state: LinkState, reason: str) -> None:
        with self._lock:
            if (console, state, reason) == self._line:
                return
            if state is not self._line[1]:
                self._since = utc(time.time_ns())
            self._line = (console, state, reason)
            self._write()

    def note(self, report: AgentReport) -> None:
        """What is replicated, for the hour when the console cannot be asked."""
        with self._lock:
            self._report = report
            if time.monotonic() - self._written >= _NOTE_S:
                self._write()

    def _write(self) -> None:
        console, state, reason = self._line
        document = {
            "pid": os.getpid(),
            "began": process_start(os.getpid()),
            "console": console,
            "state": state,
            "reason": reason,
            "since": self._since,
            "report": self._report.model_dump(mode="json") if self._report else None,
        }
        self._written = time.monotonic()
        temporary = self._path.with_suffix(".new")
        with suppress(OSError):  # a full disk must not end the line
            temporary.write_text(json.dumps(document))
            temporary.replace(self._path)


def read_status(state_dir: Path) -> dict[str, Any] | None:
    """The running agent's; None when none runs."""
    try:
        document: dict[str, Any] = json.loads((state_dir / _FILE).read_text())
        began = process_start(int(document["pid"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return document if began is not None and began == document.get("began") else None
