"""What to type to put the agent on a host that was found. Pure: the commands are shown, not run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from shlex import join as shell_words
from shlex import quote

from leeward.domain.errors import BadInput

_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:%-]{0,252}|::[0-9A-Fa-f:.]{0,50}")
FOLDER = "/opt/leeward"


def install_commands(host: str, join: Sequence[str], token: str, *, user: str = "root") -> tuple[str, ...]:
    """Shell commands for this machine, in a clone of Leeward, one after the other; the host runs Debian 12.

    host: address or name. join: arguments of the `leeward` command that makes the agent known to its console. The
    one-time token goes to its standard input: what stands on a command line is seen by every user of the machine.
    Raises BadInput.
    """
    if not _HOST.fullmatch(host):
        raise BadInput("this is neither an address nor a host name", subject=host)
    if not _USER.fullmatch(user):
        raise BadInput("this is no user name", subject=user)
    if not token or not join:
        raise BadInput("a token and the command that takes it are needed", subject=host)
    ssh = f"ssh {quote(f'{user}@{host}')}"
    unpack = f"mkdir -p {FOLDER} && tar -x -C {FOLDER}"
    build = f"apt-get update && apt-get install -y make && make -C {FOLDER} setup"
    enter = shell_words([f"{FOLDER}/.venv/bin/leeward", *join])
    return (
        f"git archive HEAD | {ssh} {quote(unpack)}",
        f"{ssh} {quote(build)}",
        # printf is the shell's own, so the token is in no list of processes here either.
        f"printf '%s\\n' {quote(token)} | {ssh} {quote(enter)}",
    )
