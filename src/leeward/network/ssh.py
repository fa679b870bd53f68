"""Commands on a host, over this machine's own SSH client, for as long as somebody has a password at hand.

The password is held in memory and in the environment of the client's process, which root alone can see; it is in no
file, no argument, no log and no message. The host's key is looked at first and pinned: nothing else is signed in to.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shlex import quote

from leeward.domain.errors import BadInput, LeewardError, Refused, Unavailable

_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:%-]{0,252}|::[0-9A-Fa-f:.]{0,50}")
_SCAN_S, _CONNECT_S = 5, 10
_KINDS = "ed25519,ecdsa,rsa"
_SECRET = "LEEWARD_SSH_SECRET"
_ASK = f"#!/bin/sh\nprintf '%s\\n' \"${_SECRET}\"\n"
_CLIENT_FAILED = 255
# What is shown of a line, and what is ever held of one: a host may say one without an end.
_LINE, _LONGEST = 500, 8192


@dataclass(frozen=True, slots=True)
class HostKeys:
    """What a host showed. lines: as in a file of known hosts. fingerprints: of each, like SHA256:…"""

    lines: tuple[str, ...]
    fingerprints: tuple[str, ...]


def host_keys(address: str, port: int) -> HostKeys:
    """Raises BadInput, and Unavailable when no SSH server answers."""
    _check(address, "root", port)
    command = ["ssh-keyscan", "-T", str(_SCAN_S), "-p", str(port), "-t", _KINDS, address]
    try:
        # A host's banner is whatever its bytes are.
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=4 * _SCAN_S,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError:
        raise Unavailable("this machine has no SSH client", hint="Install openssh-client on it") from None
    except subprocess.TimeoutExpired:
        raise Unavailable("no SSH server answers there", subject=address) from None
    lines = tuple(sorted(line for line in done.stdout.splitlines() if line and not line.startswith("#")))
    if not lines:
        raise Unavailable("no SSH server answers there", subject=address)
    return HostKeys(lines, tuple(fingerprint(line) for line in lines))


def fingerprint(line: str) -> str:
    """As ssh-keygen tells it, of a line of known hosts."""
    digest = hashlib.sha256(base64.b64decode(line.split()[2])).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def _check(address: str, user: str, port: int) -> None:
    if not _HOST.fullmatch(address):
        raise BadInput("this is neither an address nor a host name", subject=address)
    if not _USER.fullmatch(user):
        raise BadInput("this is no user name", subject="user")
    if not 1 <= port <= 65535:
        raise BadInput("a port is a number from 1 to 65535", subject="port")


class Remote:
    """One host, one user. password: "" for the keys that this machine's root has."""

    def __init__(self, address: str, port: int, user: str, password: str, keys: HostKeys) -> None:
        """Raises BadInput."""
        _check(address, user, port)
        self._address, self._port, self._user, self._password, self._keys = address, port, user, password, keys

    def run(
        self,
        command: str,
        given: bytes = b"",
        on_line: Callable[[str], None] = lambda line: None,
        limit_s: float = 60,
    ) -> None:
        """As root, with `given` on its standard input. on_line: what it says, in short lines.

        Raises Refused when nobody is let in, Unavailable when the line breaks, LeewardError when the command fails.
        """
        wanted = command if self._user == "root" else f"sudo -n sh -c {quote(command)}"
        with self._files() as (known, ask):
            environment = {**os.environ, "LC_ALL": "C.UTF-8"}
            if self._password:
                environment |= {_SECRET: self._password, "SSH_ASKPASS": str(ask), "SSH_ASKPASS_REQUIRE": "force"}
            process = subprocess.Popen(
                [*self._client(known), wanted],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environment,
            )
            ended = threading.Timer(limit_s, process.kill)
            ended.start()
            try:
                said = _talk(process, given, on_line)
            finally:
                ended.cancel()
                process.kill()
                process.wait()
        if process.returncode:
            raise self._failure(process.returncode, said)

    def _client(self, known: Path) -> list[str]:
        options = {
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": str(known),
            "GlobalKnownHostsFile": "/dev/null",
            "ConnectTimeout": str(_CONNECT_S),
            "NumberOfPasswordPrompts": "1",
            "ServerAliveInterval": "15",
            "BatchMode": "no" if self._password else "yes",
            "PreferredAuthentications": "password,keyboard-interactive" if self._password else "publickey",
        }
        words = ["ssh", "-F", "/dev/null", "-T", "-p", str(self._port), "-l", self._user]
        for name, value in options.items():
            words += ["-o", f"{name}={value}"]
        return [*words, "--", self._address]

    @contextmanager
    def _files(self) -> Iterator[tuple[Path, Path]]:
        """The pinned keys, and a program that says the password, which is not in it."""
        with tempfile.TemporaryDirectory(prefix="leeward-ssh-") as folder:
            known, ask = Path(folder) / "known", Path(folder) / "ask"
            known.write_text("".join(f"{line}\n" for line in self._keys.lines))
            ask.write_text(_ASK)
            ask.chmod(0o700)
            yield known, ask

    def _failure(self, code: int, said: str) -> LeewardError:
        if code == _CLIENT_FAILED and "Permission denied" in said:
            return Refused("the host does not let this user in", subject=self._address)
        if code == _CLIENT_FAILED and "Host key verification failed" in said:
            return Refused("the host has shown another key than before", subject=self._address)
        if code == _CLIENT_FAILED:
            return Unavailable(f"the line to the host broke: {said}", subject=self._address)
        if code < 0:
            return Unavailable("the host took too long", subject=self._address)
        return LeewardError(f"a command on the host failed: {said}", subject=self._address)


def _talk(process: subprocess.Popen[bytes], given: bytes, on_line: Callable[[str], None]) -> str:
    """The last line that was said, of a long one its last piece.

    What is given goes in beside, since either side may fill its pipe.
    """
    assert process.stdin is not None
    assert process.stdout is not None
    feeder = threading.Thread(target=_feed, args=(process, given), daemon=True)
    feeder.start()
    last = ""
    for raw in iter(partial(process.stdout.readline, _LONGEST), b""):
        line = " ".join(raw.decode(errors="replace").split())[:_LINE]
        if line:
            last = line
            on_line(line)
    process.wait()
    feeder.join(1)
    return last


def _feed(process: subprocess.Popen[bytes], given: bytes) -> None:
    assert process.stdin is not None
    try:
        process.stdin.write(given)
        process.stdin.close()
    except OSError:
        pass  # it has ended without reading everything; its exit tells why
