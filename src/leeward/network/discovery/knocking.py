"""One knock at one door: connect, talk, close, all of it bounded.

Nothing that a host does raises: it may refuse, stay silent, send garbage, never stop sending, or close at any time.
Only a lack on our own side does.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from enum import StrEnum

from leeward.domain.errors import Unavailable
from leeward.network.discovery import libvirt_rpc as rpc
from leeward.network.discovery.languages import LANGUAGES
from leeward.network.discovery.ranges import Address
from leeward.network.discovery.signs import Door, Sign, Speech
from leeward.network.discovery.talk import Talk


class Outcome(StrEnum):
    """OPEN brings a sign. REFUSED shows a machine. SILENT and UNREACHABLE leave open whether there is one.

    ABSENT: not knocked at, since the address has been shown to be nobody's.
    """

    OPEN = "open"
    REFUSED = "refused"
    SILENT = "silent"
    UNREACHABLE = "unreachable"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Knock:
    outcome: Outcome
    sign: Sign | None = None


async def knock(address: Address, door: Door, connect_s: float, talk_s: float) -> Knock:
    """connect_s: how long to wait for the connection; talk_s: for all that is said on it. Raises Unavailable."""
    try:
        sock = socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET, socket.SOCK_STREAM)
    except OSError as error:
        raise Unavailable(
            f"this machine cannot open more connections: {error.strerror}", hint="Try again later"
        ) from error
    talk = Talk(sock, Sign(door, Speech.NOTHING), _url_host(address, door.port))
    try:
        outcome = await _connect(sock, address, door.port, connect_s)
        if outcome is not Outcome.OPEN:
            return Knock(outcome)
        await _converse(talk, talk_s)
        return Knock(Outcome.OPEN, talk.sign)
    finally:
        talk.close()


async def _connect(sock: socket.socket, address: Address, port: int, patience_s: float) -> Outcome:
    sock.setblocking(False)
    try:
        async with asyncio.timeout(patience_s):
            await asyncio.get_running_loop().sock_connect(sock, _sock_address(address, port))
    except TimeoutError:  # ours, or the kernel's own after minutes
        return Outcome.SILENT
    except ConnectionError:
        return Outcome.REFUSED
    except OSError:
        return Outcome.UNREACHABLE
    return Outcome.OPEN


async def _converse(talk: Talk, patience_s: float) -> None:
    role = talk.sign.door.role
    try:
        async with asyncio.timeout(patience_s):
            await (talk.open_tls() if role.is_tls else talk.open())
            await LANGUAGES[role](talk)
    except TimeoutError:
        talk.note("it said nothing in time")
    except (EOFError, ConnectionError):
        talk.note("it closed the connection")
    except rpc.Declined:
        talk.note("it declined")
    except (OSError, ValueError, rpc.NotLibvirt) as error:
        if talk.sign.speech is Speech.NOTHING:
            talk.learn(speech=Speech.OTHER)
        talk.note(f"not what belongs there: {error}")


def _sock_address(address: Address, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
    if address.version == 4:
        return str(address), port
    scope = socket.if_nametoindex(address.scope_id) if address.scope_id else 0
    return str(address).partition("%")[0], port, 0, scope


def _url_host(address: Address, port: int) -> str:
    return f"[{str(address).partition('%')[0]}]:{port}" if address.version == 6 else f"{address}:{port}"
