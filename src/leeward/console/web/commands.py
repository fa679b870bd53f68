"""What somebody types on a host to put an agent onto it. Pure: the commands are shown, not run."""

from __future__ import annotations

import json
from shlex import quote

from leeward.network.discovery.installing import FOLDER, install_commands
from leeward.vault.stores.opening import local_folder

_LEEWARD = f"{FOLDER}/.venv/bin/leeward"
_SERVICE = "leeward-agent.service"
_UNITS = "/etc/systemd/system"


def is_local(vault_url: str) -> bool:
    """Whether the vault is a folder, which another machine sees only when it is shared."""
    return local_folder(vault_url) is not None


def onto_host(address: str) -> str:
    """On a machine with a clone of Leeward that reaches the host by SSH."""
    # The last of these would join the host; that is done on the host itself here, with its configuration.
    return "\n".join(install_commands(address, ["agent", "enrol", "-"], "token")[:-1])


def on_host(name: str, site: str, vault_url: str, token: str, storage: str, *, unlock: bool = True) -> str:
    """On the host, as root. unlock: the last command asks for the vault's passphrase; the agent waits for it."""
    lines = ["[vault]", f"url = {json.dumps(vault_url)}", "", "[[host]]", f"name = {json.dumps(name)}"]
    lines += [f'site = "{site}"', 'uri = "qemu:///system"']
    if site == "recovery":
        lines.append(f"storage = {json.dumps(storage)}")
    config = "/etc/leeward/leeward.toml"
    return "\n".join(
        [
            "mkdir -p /etc/leeward",
            f"[ -e {config} ] || cat > {config} <<'END'",
            *lines,
            "END",
            # printf is the shell's own: the token is in no list of processes.
            f"printf '%s\\n' {quote(token)} | {_LEEWARD} agent enrol -",
            f"{_LEEWARD} agent hook",
            f"sed 's|/opt/leeward/bin/|{FOLDER}/.venv/bin/|' {FOLDER}/packaging/{_SERVICE} > {_UNITS}/{_SERVICE}",
            f"systemctl daemon-reload && systemctl enable --now {_SERVICE}",
            *([f"{_LEEWARD} vault unlock"] if unlock else []),
        ]
    )
