"""What somebody types on a host to put an agent onto it. Pure: the commands are shown, not run."""

from __future__ import annotations

import json
from shlex import quote

from leeward.network.discovery.installing import FOLDER, install_commands
from leeward.vault.stores.opening import local_folder

_LEEWARD = f"{FOLDER}/.venv/bin/leeward"
_SERVICE = "leeward-agent.service"
_UNITS = "/etc/systemd/system"
_CONFIG = "/etc/leeward/leeward.toml"
# The first line of a configuration that is ours to write anew: a second try may be with another name or site.
_MARK = (
    "# Written by the console, which writes it anew whenever it enrols this host. Take this line out to keep yours."
)


def is_local(vault_url: str) -> bool:
    """Whether the vault is a folder, which another machine sees only when it is shared."""
    return local_folder(vault_url) is not None


def onto_host(address: str) -> str:
    """On a machine with a clone of Leeward that reaches the host by SSH."""
    # The last of these would join the host; that is done on the host itself here, with its configuration.
    return "\n".join(install_commands(address, ["agent", "enrol", "-"], "token")[:-1])


def on_host(name: str, site: str, vault_url: str, token: str, storage: str, *, unlock: bool = True) -> str:
    """On the host, as root; may be done again. vault_url: "" where the console tells the agent itself. unlock: the
    last command asks for the vault's passphrase; the agent waits for it. Nothing is enrolled where the operator's own
    configuration has no host of this name."""
    vault = ["[vault]", f"url = {json.dumps(vault_url)}", ""] if vault_url else []
    lines = [_MARK, "", *vault, "[[host]]", f"name = {json.dumps(name)}"]
    lines += [f'site = "{site}"', 'uri = "qemu:///system"']
    if site == "recovery":
        lines.append(f"storage = {json.dumps(storage)}")
    named = quote(f"^ *name *= *[\"']{name.replace('.', '[.]')}[\"'] *(#.*)?$")
    other = f"{_CONFIG} was not written by the console and has no host {name}: name it there, or take the file away"
    steps = [
        "mkdir -p /etc/leeward",
        f"if [ ! -s {_CONFIG} ] || head -n 1 {_CONFIG} | grep -qxF {quote(_MARK)}; then",
        f"[ ! -s {_CONFIG} ] || cp -p {_CONFIG} {_CONFIG}.before",
        f"cat > {_CONFIG} <<'END'",
        *lines,
        "END",
        f"elif ! grep -qE {named} {_CONFIG}; then echo {quote(other)} >&2; exit 1; fi",
        # printf is the shell's own: the token is in no list of processes.
        f"printf '%s\\n' {quote(token)} | {_LEEWARD} agent enrol -",
        f"{_LEEWARD} agent hook",
        f"sed 's|/opt/leeward/bin/|{FOLDER}/.venv/bin/|' {FOLDER}/packaging/{_SERVICE} > {_UNITS}/{_SERVICE}",
        "systemctl daemon-reload",
        f"systemctl enable {_SERVICE}",
        f"systemctl restart {_SERVICE}",  # one that runs has read the configuration of before
        *([f"{_LEEWARD} vault unlock"] if unlock else []),
    ]
    # Where it is typed in, a step that fails ends this and not the shell of whoever typed it.
    return "\n".join(["(set -e", *steps, ")"])
