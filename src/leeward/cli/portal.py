"""`leeward portal`: everything that is needed to recover, on a bare machine with the vault's address and its key."""

from __future__ import annotations

import os
import platform
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from leeward.cli.context import JSON
from leeward.cli.output import out, print_json, table
from leeward.cli.units import show_bytes, show_seconds, show_time
from leeward.domain.errors import BadInput, LeewardError, Refused

DEFAULT_STATE = Path("/var/lib/leeward")
_ADOPT_S = 60.0


def portal(
    vault: Annotated[str, typer.Option("--vault", help="Address of the vault: file:///…, s3://…, azure://….")],
    key_file: Annotated[
        Path | None, typer.Option("--recovery-key-file", help="File with the recovery key; else it is asked for.")
    ] = None,
    passphrase_file: Annotated[
        Path | None, typer.Option("--passphrase-file", help="Use the passphrase instead of the recovery key.")
    ] = None,
    state: Annotated[Path, typer.Option("--state", help="Folder of the portal.")] = DEFAULT_STATE,
    uri: Annotated[str, typer.Option("--uri", help="libvirt of the host where VMs are to run.")] = "qemu:///system",
    storage: Annotated[
        Path | None, typer.Option("--storage", help="Folder for their disks; STATE/images without it.")
    ] = None,
    name: Annotated[str, typer.Option("--name", help="Name of this host.")] = "",
    as_json: JSON = False,
) -> None:
    """Recover at this site although the console at home is gone.

    Opens the vault with its recovery key, shows what can be recovered, and leaves a console running here that does
    it: `leeward --config STATE/leeward.toml failover unplanned VM`. Safe to repeat.
    """
    from leeward.cli.client import Client
    from leeward.cli.config import read_settings

    config = state / "leeward.toml"
    _unlock(vault, key_file, passphrase_file, state)
    _configure(config, vault, state, uri, storage or state / "images", name or platform.node() or "recovery")
    client = Client(read_settings(config))
    rows = _wait_adopted(client, vault_vms(vault, state))
    if as_json:
        print_json({"config": str(config), "vms": rows})
        return
    out.print(_what_can_be_recovered(rows))
    recoverable = [row["vm"] for row in rows if row["failover_possible"]]
    if recoverable:
        out.print(f"\nBring one up here:\n\n    leeward --config {config} failover unplanned {recoverable[0]}\n")


def _unlock(url: str, key_file: Path | None, passphrase_file: Path | None, state: Path) -> None:
    """Keep the vault's key in the state folder, unless it is there already."""
    from leeward.agent.keys import key_path, load_keys, save_keys
    from leeward.cli.vaults import known_vault, read_passphrase
    from leeward.vault.facade import Vault
    from leeward.vault.stores.opening import open_store

    with known_vault(state):
        store = open_store(url, create=False)
        if key_path(state).exists() and key_file is None and passphrase_file is None:
            Vault.open(store, keys=load_keys(state))
            return
        if passphrase_file is not None:
            opened = Vault.open(store, passphrase=read_passphrase(passphrase_file, new=False)[0])
        else:
            opened = Vault.open(store, recovery_key=_recovery_key(key_file))
    save_keys(state, opened.keys)


def _recovery_key(file: Path | None) -> str:
    if file is not None:
        try:
            return "".join(file.read_text().split())
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"the recovery key cannot be read: {error}", subject=str(file)) from None
    if os.environ.get("LEEWARD_RECOVERY_KEY"):
        return os.environ["LEEWARD_RECOVERY_KEY"]
    if sys.stdin.isatty():
        return str(typer.prompt("Recovery key", hide_input=True))
    raise BadInput(
        "the recovery key is needed",
        hint="Give --recovery-key-file, set LEEWARD_RECOVERY_KEY, or run this in a terminal",
    )


def _configure(config: Path, vault: str, state: Path, uri: str, storage: Path, name: str) -> None:
    from leeward.cli.config import read_settings

    if config.exists():
        there = read_settings(config)
        if there.vault.url != vault:
            raise Refused(
                f"this folder belongs to another vault: {there.vault.url}",
                subject=str(state),
                hint="Choose another folder with --state",
            )
        return
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    text = f"""\
# Written by `leeward portal`.
[vault]
url = {_quoted(vault)}

[[host]]
name = {_quoted(name)}
site = "recovery"
uri = {_quoted(uri)}
storage = {_quoted(str(storage))}

[daemon]
state = {_quoted(str(state))}
autostart = true
adopt = true
"""
    draft = config.with_suffix(".new")
    draft.write_text(text)
    draft.replace(config)


def _quoted(text: str) -> str:
    """A TOML basic string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def vault_vms(url: str, state: Path) -> int:
    """How many VMs the vault has something of."""
    from leeward.agent.keys import load_keys
    from leeward.vault.facade import Vault
    from leeward.vault.stores.opening import open_store

    vault = Vault.open(open_store(url, create=False), keys=load_keys(state))
    return sum(vault.log(vm_id).begun() for vm_id in vault.vm_ids())


def _wait_adopted(client: Any, count: int) -> list[dict[str, Any]]:
    """Rows of all VMs, once the console has read the vault's catalog."""
    ends = time.monotonic() + _ADOPT_S
    while True:
        rows = [row for row in client.get("/status") if row["policy"] is not None]
        if len(rows) >= count:
            return rows
        if time.monotonic() > ends:
            raise LeewardError(f"only {len(rows)} of {count} VMs could be read from the vault")
        time.sleep(0.2)


def _what_can_be_recovered(rows: list[dict[str, Any]]) -> Any:
    made = table("VM", "HOME", "NEWEST POINT", "AGE", "DISKS", "CAN BE RECOVERED", right=("AGE",))
    for row in rows:
        point = row["last_point"]
        if point is None:
            made.add_row(row["vm"], row["home"], "–", "–", "–", f"[red]no:[/] {row['reason']}")
            continue
        disks = ", ".join(f"{disk['name']} {show_bytes(disk['size'])}" for disk in point["disks"])
        able = "[green]yes[/]" if row["failover_possible"] else f"runs at {row['away']}"
        newest = f"{point['id']} · {show_time(point['time'])}"
        made.add_row(row["vm"], row["home"], newest, show_seconds(row["rpo_actual_s"]), disks, able)
    return made
