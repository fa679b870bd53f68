"""Measuring whole processes, and tables of what came out."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from leeward.domain.errors import NotFound, Unavailable

_READY, _DONE = b"ready\n", b"done\n"


@dataclass(frozen=True, slots=True)
class Run:
    """seconds: wall time. cpu: user + system seconds of the process and its children. peak: bytes resident."""

    seconds: float
    cpu: float
    peak: int
    output: str


@dataclass(slots=True)
class Series:
    """Several runs of one contender."""

    name: str
    runs: list[Run] = field(default_factory=list)
    note: str = ""

    @property
    def seconds(self) -> float:
        return statistics.median(run.seconds for run in self.runs)

    @property
    def peak(self) -> int:
        return max(run.peak for run in self.runs)

    @property
    def cpu(self) -> float:
        return statistics.median(run.cpu for run in self.runs)


def run(command: Sequence[str | Path], env: Mapping[str, str] | None = None, stdin: Path | None = None) -> Run:
    """Run to the end; raises Unavailable with the last lines of its output when it fails."""
    began = time.monotonic()
    source = stdin.open("rb") if stdin else subprocess.DEVNULL
    process = subprocess.Popen(
        [str(word) for word in command],
        stdin=source,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, **(env or {})},
    )
    assert process.stdout is not None
    peak = _Peak(process.pid)
    output = process.stdout.read().decode(errors="replace")
    # wait4 gives this child's own figures, which getrusage(RUSAGE_CHILDREN) would mix with its siblings'.
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - began
    if process.returncode:
        tail = " / ".join(output.strip().splitlines()[-3:])
        raise Unavailable(f"exit code {process.returncode}: {tail}", subject=str(command[0]))
    return Run(seconds, _cpu(usage), peak.stop(), output)


def run_ready(command: Sequence[str | Path]) -> Run:
    """As `run`, from the moment at which the program, up already and waiting in `readied`, is told to begin."""
    process = subprocess.Popen(
        [str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    with process:
        peak = _Peak(process.pid)
        if process.stdout.readline() != _READY:
            raise Unavailable(process.stderr.read().decode(errors="replace"), subject=str(command[0]))
        drop_caches()
        began, cpu = time.monotonic(), _cpu_of(process.pid)
        process.stdin.write(b"begin\n")
        process.stdin.flush()
        if process.stdout.readline() != _DONE:
            raise Unavailable(process.stderr.read().decode(errors="replace"), subject=str(command[0]))
        seconds, cpu = time.monotonic() - began, _cpu_of(process.pid) - cpu
        highest = peak.stop()
        output, _ = process.communicate()  # the end of its input lets it go on
        return Run(seconds, cpu, highest, output.decode(errors="replace"))


@contextlib.contextmanager
def readied(*, wait: bool) -> Iterator[None]:
    """What is inside is measured by `run_ready` when `wait` is True; nothing but itself otherwise."""
    if wait:
        _say(_READY)
        sys.stdin.readline()
    yield
    if wait:
        _say(_DONE)
        sys.stdin.readline()


def _say(line: bytes) -> None:
    os.write(sys.stdout.fileno(), line)


class _Peak:
    """The highest resident memory of a process, by looking now and then.

    The kernel's own ru_maxrss is of no use here: across fork and exec it carries over what *we* had resident.
    """

    def __init__(self, pid: int) -> None:
        self._status = Path(f"/proc/{pid}/status")
        self._highest = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._over.wait(0.05):
            with contextlib.suppress(OSError):
                for line in self._status.read_text().splitlines():
                    if line.startswith("VmHWM:"):
                        self._highest = max(self._highest, int(line.split()[1]) * 1024)

    def stop(self) -> int:
        self._over.set()
        self._thread.join()
        return self._highest


def _cpu_of(pid: int) -> float:
    """Seconds that a running process has taken so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _cpu(usage: resource.struct_rusage) -> float:
    return usage.ru_utime + usage.ru_stime


def need(program: str, package: str) -> str:
    """Path of a peer's program; installs its Debian package when it is missing."""
    found = shutil.which(program)
    if found is None:
        subprocess.run(
            ["apt-get", "install", "-y", "-qq", "--no-install-recommends", package],
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            stdout=subprocess.DEVNULL,
            check=False,
        )
        found = shutil.which(program)
    if found is None:
        raise NotFound(f"{program} is not installed", hint=f"Install the Debian package {package}")
    return found


def drop_caches() -> None:
    """Every contender begins with a cold page cache, as after a night's work."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3\n")
