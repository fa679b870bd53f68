"""`leeward lab demo`: the main job shown on real VMs, by the very commands that an operator would type."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from leeward.domain.errors import LeewardError
from leeward.lab.lab import Lab
from leeward.lab.places import BRIDGE
from leeward.state.files import write_private

console = Console(highlight=False)
VM, USER = "web", "demo"
_POINTS = 8


class DemoFailed(LeewardError):
    """What the demo set out to show did not happen."""

    code = "demo"


def demo(once: bool) -> None:
    """Lab up, vault, protection, points, test failover, there and back. once: clean everything up afterwards."""
    lab = Lab()
    if lab.places.config.exists():
        _note("Taking down what an earlier demo left")
        _down(lab)
    try:
        _walk(lab)
    except BaseException:
        if once:
            _down(lab)
        raise
    if once:
        _heading("Everything is taken down again")
        _down(lab)
        console.print("\n[green]●[/] The demo went through.")
    else:
        _farewell(lab)


def _walk(lab: Lab) -> None:
    _heading("Two sites on this machine: an office with a running VM, and a recovery site")
    _leeward("lab", "up")
    guest = lab.guests("office")[VM]
    _leeward("vm", "list")

    _heading("A vault, and protection with a recovery point every second")
    _leeward("vault", "init")
    _open_dashboard(lab)
    _leeward("protect", VM, "--rpo", "1s", "--wait")

    _heading("The VM writes and is replicated; watch the points come")
    _wait_points(_POINTS)
    _leeward("points", VM, "--limit", str(_POINTS))
    _leeward("status")

    _heading("A test failover: the newest point boots at the recovery site, production goes on")
    before = lab.http("office", guest.ip, "/")
    time.sleep(2.0)  # so that a point holds what `before` told
    _leeward("failover", "test", VM, "--wait")
    view = _ask("failover", "list")[0]
    with lab.probe("recovery", view["network"], _neighbour(guest.ip)) as probe:
        copy = probe.wait(guest.ip)
    live = lab.http("office", guest.ip, "/")
    _compare(before, copy, live)
    _leeward("status")

    _heading("The proof that nothing was altered: every object's signature and hashes, with the public key alone")
    _leeward("vault", "check", "--keyless")
    _leeward("failover", "cleanup", VM)
    _there_and_back(lab, guest.ip)


def _open_dashboard(lab: Lab) -> None:
    """A user for the browser; and a look whether the pages are really there. A lab elsewhere than usual has none."""
    if not lab.dashboard:
        return
    file = lab.places.root / "dashboard-password"
    password = "-".join(secrets.token_hex(2) for _ in range(4))
    write_private(file, f"{password}\n".encode())
    _leeward("user", "add", USER, "--role", "admin", "--password-file", str(file))
    trusted = ssl.create_default_context(cafile=lab.places.state / "authority" / "authority.pem")
    try:
        with urllib.request.urlopen(f"{lab.dashboard}/sign-in", context=trusted, timeout=20) as answer:
            page = answer.read().decode()
    except OSError as error:
        raise DemoFailed(f"the dashboard does not answer: {error}", subject=lab.dashboard) from error
    if 'id="f-user"' not in page:
        raise DemoFailed("the dashboard shows something else than its sign-in page", subject=lab.dashboard)
    _tell_dashboard(lab)


def _tell_dashboard(lab: Lab) -> None:
    password = (lab.places.root / "dashboard-password").read_text().strip()
    console.print(
        f"  [green]●[/] Watch it in a browser: [bold]{lab.dashboard}[/]\n"
        f"    user [bold]{USER}[/], password [bold]{password}[/]\n"
        "    The certificate is the console's own: a browser asks once about it.\n"
    )


def _there_and_back(lab: Lab, address: str) -> None:
    _heading("A planned failover: shut down here, last changes in, up at the recovery site")
    before = lab.http("office", address, "/")["seq"]
    _leeward("failover", "planned", VM, "--yes")
    with lab.probe("recovery", BRIDGE, _neighbour(address)) as client:
        moved = client.wait(address)
        _complete("It was at record {} just before; at the recovery site it went on from {}.", before, moved)
        _heading("Accepted: from now on it is protected in the other direction, from its first write on")
        _leeward("failover", "commit", VM)
        _until(lambda status: status["state"] == "enabled")
        _leeward("status")
        away = client.wait(address)["seq"]
        _heading("And home again: what changed meanwhile comes back, written beside the old disks")
        _leeward("failover", "failback", VM, "--yes")
    _complete("It was at record {} just before; at home it went on from {}.", away, lab.wait_http("office", address))
    _leeward("failover", "commit", VM)
    _until(lambda status: status["state"] == "enabled")
    _leeward("status")


def _complete(words: str, before: int, status: dict[str, Any]) -> None:
    """Did the VM find, when it booted, all that it had written where it ran before?"""
    found = [disk["boot_seq"] for disk in status["disks"]]
    console.print("  " + words.format(f"[bold]{before}[/]", f"[bold]{found[0]}[/]"))
    if found[0] < before or not 0 <= found[0] - found[1] <= 1:
        raise DemoFailed(f"records are missing: {before} written, {found} came along", subject=VM)
    if status["error"] or not all(disk["boot_intact"] for disk in status["disks"]):
        raise DemoFailed("records are damaged", subject=VM)
    console.print("  [green]●[/] Nothing was lost.\n")


def _compare(before: dict[str, Any], copy: dict[str, Any], live: dict[str, Any]) -> None:
    """Did the copy have all that the VM had written before the point, on both disks, in one piece?"""
    first, second = copy["disks"][0]["boot_seq"], copy["disks"][1]["boot_seq"]
    console.print(f"  Before the failover the VM had durably written record [bold]{before['seq']}[/].")
    console.print(f"  The copy found [bold]{first}[/] on its first disk and [bold]{second}[/] on its second.")
    console.print(f"  The original is at record [bold]{live['seq']}[/] by now.")
    if first < before["seq"] or not 0 <= first - second <= 1:
        raise DemoFailed(f"records are missing: {before['seq']} written, {first} and {second} recovered", subject=VM)
    if not all(disk["boot_intact"] for disk in copy["disks"]) or copy["error"]:
        raise DemoFailed("the copy found damaged records", subject=VM)
    if live["seq"] <= before["seq"]:
        raise DemoFailed("the original stopped writing", subject=VM)
    console.print("  [green]●[/] Nothing is missing, both disks are of one instant, and the original never noticed.")


def _wait_points(count: int) -> None:
    ends = time.monotonic() + 120
    while len(_ask("points", VM)) < count:
        if time.monotonic() > ends:
            raise DemoFailed(
                f"no {count} recovery points within two minutes", subject=VM, hint="See the daemon's log"
            )
        time.sleep(0.5)


def _until(condition: Callable[[dict[str, Any]], bool]) -> None:
    ends = time.monotonic() + 120
    while not condition(status := _ask("status", VM)):
        if time.monotonic() > ends:
            raise DemoFailed(f"it does not get protected again: {status['reason']}", subject=VM)
        time.sleep(0.5)


def _neighbour(address: str) -> str:
    """Another address of the guest's network, for whoever looks at the copy."""
    return address.rsplit(".", 1)[0] + ".3/24"


def _heading(text: str) -> None:
    console.print(f"\n[bold cyan]▌ {text}[/]\n")


def _note(text: str) -> None:
    console.print(f"[bright_black]{text}[/]")


def _command(*words: str) -> list[str]:
    return [sys.executable, "-m", "leeward.cli.main", *words]


def _environment() -> dict[str, str]:
    environment = {**os.environ, "LEEWARD_CONFIG": str(Lab().places.config)}
    if words_wide := shutil.get_terminal_size((110, 24)).columns:
        environment["COLUMNS"] = str(words_wide)
    return environment


def _leeward(*words: str) -> None:
    """Run a command in the open, as if the operator had typed it."""
    console.print(f"[bold]$ leeward {' '.join(words)}[/]")
    environment = _environment()
    if words[:1] == ("lab",):
        environment.pop("LEEWARD_CONFIG")
    # Nobody is to be asked for anything: without a terminal to read from, the vault's passphrase is made up.
    done = subprocess.run(_command(*words), env=environment, stdin=subprocess.DEVNULL, check=False)
    console.print()
    if done.returncode:
        raise DemoFailed(f"`leeward {' '.join(words)}` ended with {done.returncode}")


def _ask(*words: str) -> Any:
    done = subprocess.run(_command(*words, "--json"), env=_environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise DemoFailed(f"`leeward {' '.join(words)}` ended with {done.returncode}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def _down(lab: Lab) -> None:
    lab.down()
    leftover = Path(lab.places.root) / "vault"
    if leftover.exists():
        raise DemoFailed("the lab left its vault behind", subject=str(leftover))


def _farewell(lab: Lab) -> None:
    console.print()
    if lab.dashboard:
        _tell_dashboard(lab)
    console.print(
        "[green]●[/] The lab goes on running, with [bold]web[/] protected every second. Try, for example:\n\n"
        "    leeward status --watch\n"
        "    leeward points web\n"
        "    leeward export web --disk vda --to /tmp/vda.raw\n"
        "    leeward failover test web --wait\n"
        "    leeward failover unplanned web\n\n"
        "  (`.venv/bin/leeward` in this folder.) Take it down with [bold]leeward lab down[/]."
    )
