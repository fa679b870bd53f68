"""Log lines: an event in plain words, facts beside it. structlog writes them.

It is imported with the first line that is written: it brings parts of rich and asyncio along, and takes longer to
import than a light command takes to run.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TextIO

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class Log:
    """The log of this process. Without `to_json` or `quiet` it writes for a developer's eyes, to standard output."""

    def __init__(self) -> None:
        self._least = 0
        self._set_up: Callable[[], None] = lambda: None
        self._writer: Any = None

    def debug(self, event: str, **facts: Any) -> None:
        self._write("debug", event, facts)

    def info(self, event: str, **facts: Any) -> None:
        self._write("info", event, facts)

    def warning(self, event: str, **facts: Any) -> None:
        self._write("warning", event, facts)

    def error(self, event: str, **facts: Any) -> None:
        self._write("error", event, facts)

    def exception(self, event: str, **facts: Any) -> None:
        """An error with the traceback of the exception that is being handled."""
        self._write("error", event, {"exc_info": True, **facts})

    def to_json(self, stream: TextIO, *, verbose: bool) -> None:
        """One JSON document a line; those of level debug only when `verbose`."""
        self._start_anew("debug" if verbose else "info", lambda: _configure_json(stream))

    def quiet(self) -> None:
        """Only errors, to standard error: for commands whose standard output is tables or JSON."""
        self._start_anew("error", _configure_quiet)

    def _start_anew(self, least: str, set_up: Callable[[], None]) -> None:
        self._least, self._set_up, self._writer = _LEVELS[least], set_up, None

    def _write(self, level: str, event: str, facts: dict[str, Any]) -> None:
        if _LEVELS[level] < self._least:
            return
        if self._writer is None:
            import structlog

            self._set_up()
            self._writer = structlog.get_logger()
        getattr(self._writer, level)(event, **facts)


def _configure_json(stream: TextIO) -> None:
    import structlog

    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.WriteLoggerFactory(file=stream),
    )


def _configure_quiet() -> None:
    import structlog

    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))


log = Log()
