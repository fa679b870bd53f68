"""From the operator's command to the guest's first HTTP answer, beside the same guest's plain boot."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from leeward.domain.errors import LeewardError
from leeward.hypervisors.libvirt.host import LibvirtHost
from leeward.lab.bench.stage import Stage
from leeward.lab.client import Client
from leeward.lab.lab import Lab

_LOOK_S = 0.02
_PATIENCE_S = 180.0
_AWAY = "10.77.0.3/24"


@dataclass(slots=True)
class FailoverFigures:
    """Seconds, one of each a round.

    boot: power-on to HTTP at home. unplanned, planned: command to HTTP at the recovery site, the source's QEMU having
    been killed before, or being shut down by it; unplanned_steps: of that run, by name. failback_down: from the last
    answer at the recovery site to the first at home. …_shutdown: the shutdown's part.
    """

    disk_gib: int
    boot: list[float] = field(default_factory=list)
    unplanned: list[float] = field(default_factory=list)
    unplanned_steps: dict[str, list[float]] = field(default_factory=dict)
    planned: list[float] = field(default_factory=list)
    planned_shutdown: list[float] = field(default_factory=list)
    failback_down: list[float] = field(default_factory=list)
    failback_shutdown: list[float] = field(default_factory=list)


def failovers(stage: Stage, gib: int, rounds: int, note: Callable[[str], None]) -> FailoverFigures:
    """With a sparse boot disk of `gib` GiB."""
    lab, guest = stage.lab, stage.guest
    if gib:
        subprocess.run(["qemu-img", "resize", "-q", str(guest.disk()), f"{gib}G"], check=True)
    figures = FailoverFigures(gib)
    desk = _Desk(lab)  # the lab's end takes its daemon along
    desk("vault", "init")
    for number in range(rounds):
        note(f"Round {number + 1} of {rounds}: boot")
        figures.boot.append(_boot(stage))
        desk("protect", guest.name, "--rpo", "1s", "--wait")
        with lab.probe("recovery", address=_AWAY) as away:
            note("unplanned failover")
            os.kill(_qemu(lab, guest.name), signal.SIGKILL)
            figures.unplanned.append(_until_http(desk, away, guest.ip, "unplanned", guest.name))
            for name, seconds in _steps(desk, guest.name).items():
                figures.unplanned_steps.setdefault(name, []).append(seconds)
            _come_home(stage, desk, away, figures, note)
            note("planned failover")
            figures.planned.append(_until_http(desk, away, guest.ip, "planned", guest.name))
            figures.planned_shutdown.append(_step(desk, guest.name, "stop"))
            _come_home(stage, desk, away, figures, note)
        desk("unprotect", guest.name)
        _off(stage)
    return figures


def _boot(stage: Stage) -> float:
    began = time.monotonic()
    stage.lab.start_guest("office", stage.guest.name)
    stage.lab.wait_http("office", stage.guest.ip, timeout_s=_PATIENCE_S)
    return time.monotonic() - began


def _off(stage: Stage) -> None:
    LibvirtHost("office", stage.uri, stage.work / "s").force_off(stage.guest.uuid)


def _until_http(desk: _Desk, client: Client, ip: str, kind: str, name: str) -> float:
    began = time.monotonic()
    with desk.begin("failover", kind, name, "--yes") as command:
        client.wait(ip, timeout_s=_PATIENCE_S)
        took = time.monotonic() - began
        if command.wait(_PATIENCE_S):
            raise LeewardError(f"the {kind} failover ended with {command.returncode}", subject=name)
    return took


def _come_home(
    stage: Stage, desk: _Desk, away: Client, figures: FailoverFigures, note: Callable[[str], None]
) -> None:
    name, lab = stage.guest.name, stage.lab
    desk("failover", "commit", name)
    desk.until_enabled(name)
    note("failback")
    with _last_answer(away, stage.guest.ip) as last, desk.begin("failover", "failback", name, "--yes") as command:
        lab.wait_http("office", stage.guest.ip, timeout_s=_PATIENCE_S)
        figures.failback_down.append(time.monotonic() - last[0])
        if command.wait(_PATIENCE_S):
            raise LeewardError(f"the failback ended with {command.returncode}", subject=name)
    figures.failback_shutdown.append(_step(desk, name, "stop-away"))
    desk("failover", "commit", name)
    desk.until_enabled(name)


@contextmanager
def _last_answer(client: Client, ip: str) -> Iterator[list[float]]:
    """Asks all the time; the one number in the list is when there was an answer last."""
    seen, over = [time.monotonic()], threading.Event()

    def look() -> None:
        while not over.wait(_LOOK_S):
            try:
                client.http(ip, timeout_s=0.5)
                seen[0] = time.monotonic()
            except (LeewardError, OSError):
                continue

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def _step(desk: _Desk, name: str, step: str) -> float:
    return _steps(desk, name)[step]


def _steps(desk: _Desk, name: str) -> dict[str, float]:
    """Of the VM's last run: step → seconds."""
    shown = desk("failover", "show", name)
    return {row["name"]: float(row["seconds"]) for row in shown["steps"] if row["seconds"] is not None}


def _qemu(lab: Lab, name: str) -> int:
    return int((Path(lab.places.site("office")) / "run" / "qemu" / f"{name}.pid").read_text())


class _Desk:
    """The commands, with the lab's configuration; the daemon starts with the first one."""

    def __init__(self, lab: Lab) -> None:
        self._environment = {**os.environ, "LEEWARD_CONFIG": str(lab.places.config)}

    @contextmanager
    def begin(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        command = [sys.executable, "-m", "leeward.cli.main", *words, "--json"]
        with subprocess.Popen(
            command, env=self._environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                yield process
            except BaseException:
                process.kill()  # else it would be waited for, however long it takes
                raise

    def __call__(self, *words: str) -> Any:
        with self.begin(*words) as process:
            told, _ = process.communicate(timeout=_PATIENCE_S)
        if process.returncode:
            raise LeewardError(f"`leeward {' '.join(words)}` ended with {process.returncode}: {told}")
        return json.loads(told)

    def until_enabled(self, name: str) -> None:
        ends = time.monotonic() + _PATIENCE_S
        while (status := self("status", name))["state"] != "enabled":
            if time.monotonic() > ends:
                raise LeewardError(f"it does not get protected again: {status['reason']}", subject=name)
            time.sleep(0.2)
