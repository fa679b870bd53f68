"""Starting, watching and ending export processes, also those that a former run of ours started."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from leeward.domain.errors import LeewardError, Unavailable
from leeward.hypervisors.passage import make_way
from leeward.ports.hypervisor import Owner
from leeward.recovery.export import ExportJob

_START_S = 30.0
_ANSWER_S = 5.0


class ExportProcess:
    """One export process, known by its folder: job.json, pid.json, s and export.log lie in it.

    The folder's path must be short: a unix socket's path is limited to 107 bytes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.socket = folder / "s"
        self._pid_file = folder / "pid.json"
        self._log = folder / "export.log"
        self._job_file = folder / "job.json"

    def uri(self, disk: str) -> str:
        return f"nbd+unix:///{disk}?socket={self.socket}"

    def prepare(self, opener: Owner, job: ExportJob) -> None:
        """Raises HypervisorError when the opener cannot get to the socket."""
        make_way(self._folder, opener)
        job.save(self._job_file)

    def pid(self) -> int | None:
        """Of the live process; None when there is none. A pid that was given to another process is not ours."""
        try:
            known = json.loads(self._pid_file.read_text())
            pid, started = int(known["pid"]), int(known["started"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return pid if process_start(pid) == started else None

    def answers(self) -> bool:
        """True when a new connection is greeted in time."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(_ANSWER_S)
            try:
                client.connect(str(self.socket))
                return client.recv(8) == b"NBDMAGIC"
            except OSError:
                return False

    def ensure(self) -> bool:
        """Make sure that it runs and answers; True when it had to be started. Raises LeewardError."""
        pid = self.pid()
        if pid is not None and self.answers():
            return False
        if pid is not None:
            self._kill(pid, signal.SIGKILL)  # wedged
        self._start()
        return True

    def _start(self) -> None:
        self.socket.unlink(missing_ok=True)
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "leeward.recovery.export", str(self._job_file)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # it must outlive us
            )
        started = process_start(process.pid)
        draft = self._pid_file.with_suffix(".new")
        draft.write_text(json.dumps({"pid": process.pid, "started": started}))
        draft.replace(self._pid_file)
        ends = time.monotonic() + _START_S
        while not self.socket.exists():
            if process.poll() is not None:
                raise self._failure()
            if time.monotonic() > ends:
                raise Unavailable(
                    "the export process does not get ready; is the vault reachable?",
                    subject=str(self._log),
                    hint="It goes on trying; look into its log",
                )
            time.sleep(0.01)

    def _failure(self) -> LeewardError:
        """What the process said before it ended."""
        lines = self._log.read_text(errors="replace").strip().splitlines()
        try:
            said = json.loads(lines[-1])
            return LeewardError(said["message"], subject=said["subject"], hint=said["hint"])
        except (IndexError, ValueError, KeyError, TypeError):
            return LeewardError("the export process ended at once", subject=str(self._log))

    def boot_is_over(self) -> None:
        """Tell it to store the record of the boot's reads."""
        pid = self.pid()
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGUSR1)

    def stop(self) -> None:
        """End it; idempotent."""
        pid = self.pid()
        if pid is not None:
            self._kill(pid, signal.SIGTERM)
            ends = time.monotonic() + 3
            while self.pid() is not None and time.monotonic() < ends:
                time.sleep(0.02)
            if self.pid() is not None:
                self._kill(pid, signal.SIGKILL)
        self._pid_file.unlink(missing_ok=True)
        self.socket.unlink(missing_ok=True)

    @staticmethod
    def _kill(pid: int, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def process_start(pid: int) -> int | None:
    """Field 22 of /proc/PID/stat: with it a pid is never the same for two processes. None for a dead one."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    if fields[0] == "Z":
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)  # our own dead child: let it go
        return None
    return int(fields[19])
