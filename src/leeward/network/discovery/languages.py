"""What is said behind each kind of door. Each function talks until it knows enough, and lets errors through."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace

from leeward.network.discovery import libvirt_rpc as rpc
from leeward.network.discovery import wsman
from leeward.network.discovery.signs import LibvirtFacts, Role, Speech, printable
from leeward.network.discovery.talk import Talk

_LONGEST_BANNER = 8 << 10  # RFC 4253 lets an SSH server say other lines before its version
_MUTE_S = 0.3  # a console port waits for its client; what has something to say says it at once
_QEMU = "qemu:///system"


async def ssh(talk: Talk) -> None:
    """Read the version line; say nothing."""
    data = b""
    while len(data) < _LONGEST_BANNER:
        more = await talk.some(_LONGEST_BANNER - len(data))
        data += more
        *lines, unfinished = data.split(b"\n")
        for line in lines if more else [*lines, unfinished]:
            if line.startswith(b"SSH-"):
                talk.learn(speech=Speech.SSH, words=printable(line[:255]))
                return
        if not more:
            break
    talk.learn_other(data)


async def vmconnect(talk: Talk) -> None:
    """Only listen: a console port is mute, and a banner betrays that something else has it."""
    try:
        async with asyncio.timeout(_MUTE_S):
            talk.learn_other(await talk.some(256))
    except TimeoutError:
        talk.note("open")


async def libvirt_tls(talk: Talk) -> None:
    """libvirt sends one byte after the handshake when it accepts the client's certificate, or wants none."""
    try:
        accepted = await talk.exactly(1) == b"\1"
    except (OSError, EOFError):
        accepted = False
    if accepted:
        await libvirt(talk)
    else:
        talk.note("it wants a client certificate")


async def libvirt(talk: Talk) -> None:
    """Ask how to sign in; where no sign-in is wanted, also which hypervisor and versions. Read-only throughout."""
    facts = LibvirtFacts(auth=rpc.auth_names(await _call(talk, rpc.AUTH_LIST)))
    talk.learn(speech=Speech.LIBVIRT, words=f"sign-in: {', '.join(facts.auth)}", libvirt=facts)
    if "none" not in facts.auth:
        return
    try:
        await _call(talk, rpc.OPEN, rpc.open_payload(_QEMU))
    except rpc.Declined as declined:
        talk.learn(libvirt=replace(facts, qemu=False, refusal=printable(str(declined))))
        return
    facts = replace(facts, qemu=True)
    talk.learn(libvirt=facts)
    # Each may be declined by itself; what was told before stays. The name comes last: it decides nothing, and a
    # daemon without a name service may take seconds for it.
    with suppress(rpc.Declined):
        facts = replace(facts, version=rpc.version_of(await _call(talk, rpc.GET_LIB_VERSION)))
        talk.learn(libvirt=facts)
    with suppress(rpc.Declined):
        facts = replace(facts, qemu_version=rpc.version_of(await _call(talk, rpc.GET_VERSION)))
        talk.learn(libvirt=facts)
    with suppress(rpc.Declined):
        facts = replace(facts, host_name=printable(rpc.text_of(await _call(talk, rpc.GET_HOSTNAME))))
        talk.learn(libvirt=facts)
    await _call(talk, rpc.CLOSE)


async def _call(talk: Talk, procedure: int, payload: bytes = b"") -> bytes:
    serial = procedure  # each is asked once
    await talk.write(rpc.call(procedure, serial, payload))
    rest = await talk.exactly(rpc.rest_length(await talk.exactly(rpc.LENGTH_SIZE)))
    return rpc.payload_of(rest, procedure, serial)


async def winrm(talk: Talk) -> None:
    await talk.write(wsman.request(talk.host))
    data = b""
    try:
        while len(data) < wsman.LONGEST and not wsman.is_whole(data):
            more = await talk.some(wsman.LONGEST - len(data))
            if not more:
                talk.note("it closed the connection")
                break
            data += more
    finally:
        # Also when time runs out: what has come may be enough.
        if data:
            _learn_identity(talk, data)


def _learn_identity(talk: Talk, data: bytes) -> None:
    answer = wsman.answer(data)
    if answer is None:
        talk.learn_other(data)
        return
    server = printable(answer.server)
    if answer.identified:
        words = printable(f"{answer.vendor} {answer.version}")
        talk.learn(speech=Speech.WINRM, words=words, vendor=printable(answer.vendor))
    elif answer.status == 401 and server.startswith("Microsoft-HTTPAPI"):
        # Windows where Identify without sign-in has been turned off.
        talk.learn(speech=Speech.WINRM, words=f"{server}, wants sign-in")
    else:
        talk.learn(speech=Speech.HTTP, words=f"HTTP {answer.status} {server}".strip())


LANGUAGES: dict[Role, Callable[[Talk], Awaitable[None]]] = {
    Role.SSH: ssh,
    Role.LIBVIRT: libvirt,
    Role.LIBVIRT_TLS: libvirt_tls,
    Role.WINRM: winrm,
    Role.WINRM_TLS: winrm,
    Role.VMCONNECT: vmconnect,
}
