"""Who this agent is to its console: a key that never leaves the host, its certificate, and the console's authority.

One file holds all of it, so that no crash leaves a key without its certificate or a console with another's authority.
"""

from __future__ import annotations

import json
import os
import ssl
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from leeward.domain.errors import BadInput, NotFound
from leeward.state.files import write_private

# OpenSSL's X509_V_FLAG_NO_CHECK_TIME: the pinned authority is what counts, and a host whose clock is wrong by a year
# (an empty battery) must find its console all the same.
_NO_CHECK_TIME = 0x200000


@dataclass(frozen=True, slots=True)
class Identity:
    """console: https://host:port, where this host enrolled. authority, certificate, key: PEM. consoles: addresses
    that a console told since then, of all that share its work; one of them answers at a time."""

    console: str
    agent_id: str
    name: str
    authority: str
    certificate: str
    key: str
    consoles: tuple[str, ...] = ()

    @property
    def expires(self) -> datetime:
        """UTC, by the console's clock."""
        return x509.load_pem_x509_certificate(self.certificate.encode()).not_valid_after_utc

    @property
    def fingerprint(self) -> str:
        """Of the authority, as the console shows it."""
        return x509.load_pem_x509_certificate(self.authority.encode()).fingerprint(hashes.SHA256()).hex(":").upper()

    def expired(self) -> bool:
        return datetime.now(UTC) > self.expires


def _path(state_dir: Path) -> Path:
    return state_dir / "identity" / "identity.json"


def load_identity(state_dir: Path) -> Identity:
    """Raises NotFound when this host was never enrolled, BadInput for a damaged file."""
    path = _path(state_dir)
    try:
        found = json.loads(path.read_bytes())
        identity = Identity(**{**found, "consoles": tuple(found.get("consoles", ()))})
        tls_context(identity)
    except FileNotFoundError:
        raise NotFound(
            "this host is not enrolled with a console",
            subject=str(path),
            hint="Make a token on the console with `leeward agents token`, then run `leeward agent enrol TOKEN` here",
        ) from None
    except PermissionError:
        raise BadInput("the agent's identity may not be read", subject=str(path), hint="Run this as root") from None
    except (ValueError, TypeError, OSError) as error:
        raise BadInput(
            f"the agent's identity cannot be read ({error})", subject=str(path), hint="Enrol this host again"
        ) from None
    return identity


def save_identity(state_dir: Path, identity: Identity) -> None:
    write_private(_path(state_dir), json.dumps(asdict(identity), indent=1).encode())


def forget_identity(state_dir: Path) -> None:
    forget_pending(state_dir)
    _path(state_dir).unlink(missing_ok=True)


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def pending_key(state_dir: Path) -> ec.EllipticCurvePrivateKey:
    """The key of an enrolment under way: kept until it is through, so that a lost answer can be asked for again."""
    path = _pending(state_dir)
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        key = new_key()
        write_private(path, key_pem(key).encode())
    return key


def forget_pending(state_dir: Path) -> None:
    _pending(state_dir).unlink(missing_ok=True)


def _pending(state_dir: Path) -> Path:
    return state_dir / "identity" / "pending.key"


def signing_request(key: ec.EllipticCurvePrivateKey) -> str:
    """Only the key counts; the console decides about the name."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "leeward agent")])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


def authority_context(authority: str) -> ssl.SSLContext:
    """Trusts this one authority and nobody else.

    Names are not compared: this authority vouches for nothing but its console's own listeners (and for agents, whose
    certificates OpenSSL does not take for a server's), so the console may move to another address.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= _NO_CHECK_TIME
    context.load_verify_locations(cadata=authority)
    return context


def tls_context(identity: Identity) -> ssl.SSLContext:
    """As `authority_context`, and with our certificate."""
    context = authority_context(identity.authority)
    # OpenSSL wants a file; this one is in memory, so that the key lies in one place only.
    descriptor = os.memfd_create("leeward-identity")
    with os.fdopen(descriptor, "wb") as file:
        file.write((identity.key + identity.certificate).encode())
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    return context


def identity_stamp(state_dir: Path) -> tuple[int, int]:
    """Changes whenever the identity is written anew; (0, 0) when there is none."""
    try:
        found = _path(state_dir).stat()
    except OSError:
        return 0, 0
    return found.st_ino, found.st_mtime_ns
