"""Enrolment: a token becomes an identity."""

from __future__ import annotations

import hashlib
import hmac
import ssl
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from leeward.agent.channel import Channel
from leeward.agent.identity import (
    Identity,
    authority_context,
    forget_identity,
    forget_pending,
    key_pem,
    load_identity,
    new_key,
    pending_key,
    save_identity,
    signing_request,
)
from leeward.domain.errors import LeewardError, Refused, Unavailable
from leeward.recovery.records import CopyRecords
from leeward.state.vault_place import PlaceFile
from leeward.wire.messages import WIRE_VERSION, Message
from leeward.wire.polls import Enrol, Enrolled, Renew, Renewed
from leeward.wire.tokens import Token, split_address

_TIMEOUT_S = 30.0
_M = TypeVar("_M", bound=Message)


def enrol(state_dir: Path, token: Token, name: str) -> Identity:
    """Make a key, have it certified, keep both. Safe to repeat when the answer was lost. Raises Refused, Unavailable.

    The token's secret is told only to a console whose authority has the token's fingerprint.
    """
    address, authority = _first_that_answers(token)
    key = pending_key(state_dir)
    channel = Channel(address, lambda: authority_context(authority))
    request = Enrol(secret=token.secret.hex(), request=signing_request(key), name=name)
    try:
        answer = channel.ask("POST", "/agent/enrol", request.model_dump_json().encode(), _TIMEOUT_S)
    finally:
        channel.close()
    enrolled = _read(Enrolled, answer)
    identity = Identity(
        console=address,
        agent_id=enrolled.agent_id,
        name=enrolled.name,
        authority=authority,
        certificate=enrolled.certificate,
        key=key_pem(key),
        consoles=token.addresses if len(token.addresses) > 1 else (),
    )
    forget_former(state_dir, authority)
    save_identity(state_dir, identity)
    forget_pending(state_dir)
    return identity


def forget_former(state_dir: Path, authority: str) -> None:
    """What another console has told of its vault is none of the new one's business."""
    try:
        former = load_identity(state_dir).authority
    except LeewardError:
        return
    if former != authority:
        PlaceFile(state_dir).remove()


def leave(state_dir: Path) -> str:
    """Be no agent of any console any more: certificate, key and what the console has told of the vault are removed
    from this host. Returns the console's address.

    Raises NotFound when it is not enrolled, Refused while VMs here read from the vault: nobody could let them do so
    again once their export processes end.
    """
    identity = load_identity(state_dir)
    folders = sorted((state_dir / "copy").glob("*"))
    reading = [copy.copy_name for folder in folders for copy in CopyRecords(folder).all() if not copy.hydrated]
    if reading:
        raise Refused(
            f"VMs of this host still read from the vault: {', '.join(sorted(reading))}",
            hint="Wait until they are copied out of it, clean up tests, bring failed over VMs home",
        )
    PlaceFile(state_dir).remove()
    forget_identity(state_dir)
    return identity.console


def renew(state_dir: Path, identity: Identity, channel: Channel) -> Identity:
    """The next certificate, for a new key. The old one stays good for its time, so a lost answer costs nothing."""
    key = new_key()
    request = Renew(request=signing_request(key))
    answer = channel.ask("POST", "/agent/renew", request.model_dump_json().encode(), _TIMEOUT_S)
    renewed = replace(identity, certificate=_read(Renewed, answer).certificate, key=key_pem(key))
    _replace(state_dir, identity, renewed)
    return renewed


def note_consoles(state_dir: Path, identity: Identity, consoles: tuple[str, ...]) -> Identity:
    """Keep where consoles are from now on."""
    for address in consoles:
        split_address(address)
    told = replace(identity, consoles=consoles)
    _replace(state_dir, identity, told)
    return told


def _replace(state_dir: Path, old: Identity, new: Identity) -> None:
    if load_identity(state_dir) != old:
        raise Unavailable("this host was enrolled anew just now", subject=old.console)
    save_identity(state_dir, new)


def answers_others(address: str, authority: str) -> bool:
    """Whether the console that we enrolled with answers there, asked without our certificate."""
    channel = Channel(address, lambda: authority_context(authority))
    try:
        channel.ask("GET", "/agent/authority", b"", _TIMEOUT_S)
    except LeewardError:
        return False
    finally:
        channel.close()
    return True


def _first_that_answers(token: Token) -> tuple[str, str]:
    """(address, authority as PEM) of the console that works, of those that the token names."""
    *others, last = token.addresses
    for address in others:
        with suppress(Unavailable):
            return address, _pinned_authority(token, address)
    return last, _pinned_authority(token, last)


def _pinned_authority(token: Token, address: str) -> str:
    """The console's authority, PEM, when it is the one that the token names. Nothing secret is said before this."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    channel = Channel(address, lambda: context)
    try:
        pem = channel.ask("GET", "/agent/authority", b"", _TIMEOUT_S).decode("ascii", "replace")
    finally:
        channel.close()
    try:
        found = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).digest()
    except ValueError:
        found = b""
    if not hmac.compare_digest(found, token.fingerprint):
        raise Refused(
            "whoever answers there is not the console that made the token",
            subject=address,
            hint="Compare the address with the console's; if the console was set up anew, make a new token",
        )
    return pem


def _read(kind: type[_M], answer: bytes) -> _M:
    try:
        return kind.model_validate_json(answer)
    except ValidationError as error:
        raise Unavailable(
            f"the console's answer cannot be read: {error.errors()[0]['msg']} (we speak version {WIRE_VERSION})"
        ) from None
