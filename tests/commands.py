"""`leeward` commands, each a process of its own, that need not import Leeward each: a third of a second of CPU.

They are forked off a process that has imported it (command_server.py). All else of them is real: arguments,
environment, folder, standard input and output, exit code. That a command starts from nothing is shown in
cli/test_commands.py and cli/test_light_start.py.
"""

import atexit
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

_SERVER = Path(__file__).with_name("command_server.py")
# What rich asks when it is imported: → the socket of a server that was started with it.
_servers = {}


def leeward(words, environment, *, cwd=None, typed=""):
    """subprocess.run of `leeward WORDS` with all of its output as text. typed: its standard input."""
    given, told, warned = (os.memfd_create(name) for name in ("stdin", "stdout", "stderr"))
    reply, answering = os.pipe()
    try:
        os.write(given, typed.encode())
        os.lseek(given, 0, os.SEEK_SET)
        order = {"words": [str(word) for word in words], "environment": environment, "cwd": str(cwd or Path.cwd())}
        message = json.dumps(order, default=str).encode()
        socket.send_fds(_server(environment), [message], [given, told, warned, answering])
        os.close(answering)
        code = _wait(reply)
        return subprocess.CompletedProcess(["leeward", *words], code, _text(told), _text(warned))
    finally:
        for descriptor in (given, told, warned, reply):
            os.close(descriptor)


def _server(environment):
    columns = environment.get("COLUMNS")
    if columns not in _servers:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        process = subprocess.Popen(
            [sys.executable, str(_SERVER), str(theirs.fileno())],
            env={name: value for name, value in environment.items() if not name.startswith("LEEWARD_")},
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        theirs.close()
        _servers[columns] = ours
        atexit.register(process.wait)
        atexit.register(ours.close)  # which ends it
    return _servers[columns]


def _wait(reply):
    """The exit code, once it has ended; whoever is interrupted here leaves no command behind."""
    with open(reply, closefd=False) as lines:
        pid = int(lines.readline())
        try:
            return int(lines.readline())
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            raise


def _text(descriptor):
    os.lseek(descriptor, 0, os.SEEK_SET)
    with open(descriptor, closefd=False) as file:
        return file.read()
