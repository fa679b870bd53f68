"""Agents that the console puts onto hosts over SSH: steps that are watched while they are done.

In memory only. Nothing of it outlives the console; begun again, each step finds what was done and goes on.
"""

from __future__ import annotations

import contextvars
import io
import tarfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import leeward
from leeward.domain.errors import LeewardError, Refused
from leeward.logs import log
from leeward.network.ssh import Remote

FOLDER = "/opt/leeward"
_LEEWARD = f"{FOLDER}/.venv/bin/leeward"
_SENT = ("Makefile", "pyproject.toml", "requirements.lock", "README.md", "LICENSE", "scripts", "packaging", "src")
_INSTALL_S = 3600.0
_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class PushStep:
    """state: waiting, running, done or failed. detail: what the host said last. started: UTC seconds."""

    tells: str
    state: str = "waiting"
    detail: str = ""
    started: float | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Push:
    """state: running, done or failed."""

    steps: tuple[PushStep, ...]
    state: str = "running"
    failure: str = ""


Task = Callable[[Callable[[str], None]], None]


class Pushes:
    """Thread-safe. By address; of each host the last one is kept."""

    def __init__(self) -> None:
        self._pushes: dict[str, Push] = {}
        self._lock = threading.Lock()

    def of(self, address: str) -> Push | None:
        with self._lock:
            return self._pushes.get(address)

    def start(self, address: str, tasks: Sequence[tuple[str, Task]]) -> None:
        """Raises Refused while one is under way there, or several elsewhere."""
        with self._lock:
            running = [one for one, push in self._pushes.items() if push.state == "running"]
            if address in running:
                raise Refused("an agent is being installed there already", subject=address)
            if len(running) >= _AT_ONCE:
                raise Refused("agents are being installed on several hosts", hint="Wait until one of them is done")
            self._pushes[address] = Push(tuple(PushStep(tells) for tells, _ in tasks))
        # What it writes down is on behalf of whoever began it.
        begun = contextvars.copy_context()
        threading.Thread(target=begun.run, args=(self._work, address, tasks), name="push", daemon=True).start()

    def _work(self, address: str, tasks: Sequence[tuple[str, Task]]) -> None:
        for number, (_, task) in enumerate(tasks):
            began = time.time()
            self._set(address, number, state="running", started=began)
            try:
                task(lambda line, number=number: self._set(address, number, detail=line))  # type: ignore[misc]
            except LeewardError as error:
                self._fail(address, number, error.message)
                return
            except Exception:  # a bug must not leave a page that waits for ever
                log.exception("an agent could not be installed", host=address)
                self._fail(address, number, "an error inside Leeward")
                return
            self._set(address, number, state="done", seconds=time.time() - began)
        with self._lock:
            self._pushes[address] = replace(self._pushes[address], state="done")

    def _set(self, address: str, number: int, **changes: object) -> None:
        with self._lock:
            push = self._pushes[address]
            steps = list(push.steps)
            steps[number] = replace(steps[number], **changes)  # type: ignore[arg-type]
            self._pushes[address] = replace(push, steps=tuple(steps))

    def _fail(self, address: str, number: int, failure: str) -> None:
        self._set(address, number, state="failed", detail=failure)
        with self._lock:
            self._pushes[address] = replace(self._pushes[address], state="failed", failure=failure)
        log.warning("an agent could not be installed", host=address, error=failure)


def source_root() -> Path:
    """The tree that this Leeward was installed from. Raises Refused."""
    root = Path(leeward.__file__).resolve().parents[2]
    if not all((root / name).exists() for name in ("Makefile", "pyproject.toml", "requirements.lock")):
        raise Refused(
            "this console was not installed from a clone of Leeward, so it has nothing to send",
            hint="Bring Leeward onto the host by hand, then enrol it with a token",
        )
    return root


def packed(root: Path) -> bytes:
    """What a host needs of it, as a compressed archive: no repository, no tests, nothing that was built."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz", compresslevel=6) as archive:
        for name in _SENT:
            if (root / name).exists():
                archive.add(root / name, name, filter=_plain)
    return made.getvalue()


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    if "__pycache__" in entry.name or entry.name.endswith((".pyc", ".egg-info")):
        return None
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return entry


def install_tasks(
    remote: Remote, archive: Callable[[], bytes], script: Callable[[], str], passphrase: str
) -> list[tuple[str, Task]]:
    """script: configures, enrols and starts the agent; made when it is needed, since it holds the token, which does
    not live long. It goes to the shell's input. passphrase: of the vault, "" leaves it locked there."""
    unpack = f"mkdir -p {FOLDER} && tar -x -z -C {FOLDER}"
    build = (
        "export DEBIAN_FRONTEND=noninteractive; apt-get update -q && apt-get install -y -q make && "
        f"make -C {FOLDER} setup"
    )
    look = '. /etc/os-release && echo "$PRETTY_NAME" && command -v apt-get > /dev/null'
    tasks: list[tuple[str, Task]] = [
        ("Sign in to the host", lambda tell: remote.run(look, on_line=tell)),
        ("Copy Leeward onto it", lambda tell: remote.run(unpack, archive(), tell, 300)),
        ("Install what it needs", lambda tell: remote.run(build, b"", tell, _INSTALL_S)),
        ("Configure, enrol and start the agent", lambda tell: remote.run("sh -e", script().encode(), tell, 300)),
    ]
    if passphrase:
        unlock = f"{_LEEWARD} vault unlock --passphrase-file /dev/stdin"
        tasks.append(
            ("Let it open the vault", lambda tell: remote.run(unlock, passphrase.encode(), tell, 120)),
        )
    return tasks
