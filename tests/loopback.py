"""Ports on loopback for servers that start later, or start again."""

import random
import socket


def free_port() -> int:
    """One that nobody listens at, below those that Linux gives to outgoing connections and to port 0.

    So nobody of the other tests is given it between our look and the server's start, or two starts of it."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
