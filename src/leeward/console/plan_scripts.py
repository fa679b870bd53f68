"""Scripts of recovery plans: programs in one folder of the console's machine, run without any shell.

A script is run at least once: when the console dies while it runs, it is ended and run again, and told so.
"""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from leeward.domain.errors import BadInput, LeewardError, NotFound, Refused
from leeward.logs import log
from leeward.orchestrator.plan_ground import Ended, Interrupted

_POLL_S = 0.05
# How long a script may take to end itself after SIGTERM, and its last words to arrive.
_END_S = 5.0
_KEEP_BYTES = 4096
_CALL = "LEEWARD_CALL"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


# Of this process, by any of its Scripts. Under the lock, so that a script which has just begun is known.
_running: set[subprocess.Popen[bytes]] = set()
_starting = threading.Lock()
# A program on a file system that hangs may take for ever to begin: nobody waits longer for it.
_STARTS_S = 0.5


@dataclass(frozen=True, slots=True)
class Call:
    """id: names this call in all its tries. arguments: as they are, never through a shell. facts: its environment."""

    id: str
    file: str
    arguments: Sequence[str]
    timeout_s: float
    facts: Mapping[str, str]


class Scripts:
    """folder: made when it is first asked for; only what lies in it can be run. stopping: this console shuts down."""

    def __init__(self, folder: Path, stopping: Callable[[], bool] = lambda: False) -> None:
        self._folder = folder
        self._stopping = stopping

    def path(self, file: str) -> Path:
        """Of a script. Raises BadInput, NotFound or Refused, each of which says what is wrong with it."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if file in ("", ".", "..") or "/" in file or "\0" in file:
            raise BadInput("a script is named, without a path", subject=file)
        path = self._folder / file
        try:
            found = path.lstat()
        except FileNotFoundError:
            raise NotFound("there is no such script", subject=str(path), hint="Put it there") from None
        if not stat.S_ISREG(found.st_mode):
            raise Refused("a script must be a plain file", subject=str(path))
        if found.st_uid not in (0, os.geteuid()) or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise Refused("others can change this script", subject=str(path), hint="chown root, chmod 755")
        if not os.access(path, os.X_OK):
            raise Refused("this script cannot be executed", subject=str(path), hint="chmod 755")
        return path

    def names(self) -> list[str]:
        """Of all scripts that can be run."""
        found = []
        for path in sorted(self._folder.glob("*")):
            with contextlib.suppress(LeewardError):
                found.append(self.path(path.name).name)
        return found

    def run(self, call: Call, again: bool) -> Ended:
        """To its end. again: an earlier try of this call may have been made, and may still run."""
        path = self.path(call.file)
        if again:
            self._end_earlier(call.id)
        environment = {
            "PATH": _PATH,
            "LANG": "C.UTF-8",
            "HOME": os.environ.get("HOME", "/"),
            **call.facts,
            _CALL: call.id,
            "LEEWARD_AGAIN": "1" if again else "0",
        }
        try:
            with _starting:
                process = subprocess.Popen(
                    [str(path), *call.arguments],
                    cwd=self._folder,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
                _running.add(process)
        except OSError as error:
            return Ended(False, f"{call.file} cannot be run: {error.strerror or error}", "")
        try:
            return self._await(process, call)
        finally:
            _running.discard(process)

    def _await(self, process: subprocess.Popen[bytes], call: Call) -> Ended:
        tail = _Tail(process)
        began = time.monotonic()
        while process.poll() is None:
            if self._stopping():
                _end_group(process)
                raise Interrupted
            if time.monotonic() - began > call.timeout_s:
                _end_group(process)
                return Ended(False, f"{call.file} did not end within {call.timeout_s:g} s", tail.text())
            time.sleep(_POLL_S)
        code = process.returncode
        if code == 0:
            return Ended(True, f"{call.file} ended well", tail.text())
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        return Ended(False, f"{call.file} {how}", tail.text())

    def _end_earlier(self, call_id: str) -> None:
        """Two tries must not run side by side: end what an earlier one left, known by its environment."""
        for pid in _calls(call_id):
            log.warning("ending a script that an earlier console left running", call=call_id, pid=pid)
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)


def _calls(call_id: str) -> list[int]:
    mark = f"{_CALL}={call_id}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


@contextlib.contextmanager
def none_running() -> Iterator[None]:
    """Scripts are killed at once, since another console may be about to run them anew on its machine; and none begins
    until this is left."""
    held = _starting.acquire(timeout=_STARTS_S)
    try:
        for process in list(_running):
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
        yield
    finally:
        if held:
            _starting.release()


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """The script and what it started in its own group: first asked, then killed."""
    for number, patience in ((signal.SIGTERM, _END_S), (signal.SIGKILL, _END_S)):
        with contextlib.suppress(OSError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)


class _Tail:
    """The end of what a process says. A child of it that lives on may hold the pipe: nobody waits for that."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        self._stream = process.stdout
        self._kept = b""
        self._thread = threading.Thread(target=self._read, name="script-output", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            while said := self._stream.read1(_KEEP_BYTES):  # type: ignore[attr-defined]
                self._kept = (self._kept + said)[-_KEEP_BYTES:]

    def text(self) -> str:
        self._thread.join(1.0)
        return self._kept.decode(errors="replace").strip()
