"""Forks `leeward` commands: `python command_server.py SOCKET`. Ends when the other end of the socket is closed.

One thread, so that a fork takes along all there is. Each order has the descriptors of the command's standard input,
output and errors, and of a pipe that is told its process id and its exit code.
"""

import gc
import json
import os
import signal
import socket
import sys
import time
from importlib import import_module

from leeward.cli.main import main

# What commands need that ask a console, or look into a vault.
for name in (
    "certifi",
    "httpcore",
    "leeward.agent.keys",
    "leeward.cli.client",
    "leeward.cli.logins",
    "leeward.cli.remote",
    "leeward.console.service",
    "leeward.recovery.image",
    "leeward.vault.check",
    "leeward.wire.translate",
):
    import_module(name)


def command(orders, order, descriptors):
    """In a process of the order's own: → the command's, which goes on; this one stays until that has ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    orders.close()
    *standard, reply = descriptors
    if pid := os.fork():
        os.write(reply, b"%d\n" % pid)
        _, status = os.waitpid(pid, 0)
        os.write(reply, b"%d\n" % os.waitstatus_to_exitcode(status))
        os._exit(0)
    for number, descriptor in enumerate(standard):
        os.dup2(descriptor, number)
    for descriptor in descriptors:
        os.close(descriptor)
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["environment"])
    time.tzset()
    sys.argv = ["leeward", *order["words"]]
    sys.exit(main(order["words"]))


def serve(orders):
    assert len(os.listdir("/proc/self/task")) == 1
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody has to be waited for
    gc.freeze()
    while True:
        message, descriptors, _, _ = socket.recv_fds(orders, 1 << 20, 4)
        if not message:
            return
        if not os.fork():
            command(orders, json.loads(message), descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


serve(socket.socket(fileno=int(sys.argv[1])))
