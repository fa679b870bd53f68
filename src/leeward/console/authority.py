"""The console's own certificate authority: it vouches for the console's listeners and for enrolled agents.

Nobody else has to trust it. Agents pin it by the fingerprint that their token carries, browsers are told to by their
owner. Key and certificate lie in one file, so that no crash parts them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from leeward.domain.errors import BadInput, LeewardError
from leeward.state.files import create_private, write_private

_CA_DAYS = 30 * 365
# Browsers take no longer-lived ones.
_SERVER_DAYS = 397
# A console's clock may be set back after it has issued something.
_BACKDATED = timedelta(days=1)
RENEW_AT = 2 / 3  # of a certificate's life


@dataclass(frozen=True, slots=True)
class Peer:
    """What an agent's certificate says. Times are UTC by the clock of the console that issued it."""

    agent_id: str
    serial: str
    issued: datetime
    expires: datetime

    def expired(self, now: datetime) -> bool:
        return now > self.expires

    def due(self, now: datetime) -> bool:
        """Whether it is time for the next certificate."""
        return now > self.issued + (self.expires - self.issued) * RENEW_AT


class Authority:
    def __init__(self, folder: Path, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self._folder = folder
        self._key = key
        self._certificate = certificate

    @classmethod
    def open(cls, folder: Path) -> Authority:
        """Load it, or create it on first use. Raises BadInput when its file cannot be used."""
        path = folder / "authority.pem"
        try:
            if not path.exists():
                create_private(path, _new_authority())
            key, certificate = _load(path)
        except OSError as error:
            raise LeewardError(f"the authority cannot be read or made: {error}", subject=str(path)) from error
        return cls(folder, key, certificate)

    @property
    def ca_pem(self) -> bytes:
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate as browsers and openssl show it: AB:CD:…"""
        return self._certificate.fingerprint(hashes.SHA256()).hex(":").upper()

    def derive(self, purpose: str) -> bytes:
        """32 secret bytes that follow from the authority's key: the same on all consoles that share it, and of no use
        to find the key or what is derived for another purpose."""
        secret = self._key.private_numbers().private_value.to_bytes((self._key.key_size + 7) // 8, "big")
        return HKDF(hashes.SHA256(), 32, salt=None, info=f"leeward {purpose}".encode()).derive(secret)

    def server_files(self, names: Sequence[str], listener: str = "server") -> tuple[Path, Path]:
        """(certificate, key) for a listener that is reached under these names (DNS names or addresses).

        listener: names its files; two listeners with different names need two.

        The key stays the same, so that the pair fits at every instant; the certificate is issued anew when a third of
        its life is left or the names are others. A listener that runs for long asks again daily and loads it again.
        """
        key_path, path = self._folder / f"{listener}.key", self._folder / f"{listener}.pem"
        if not key_path.exists():
            create_private(key_path, _key_pem(ec.generate_private_key(ec.SECP256R1())))
        try:
            key = _read_key(key_path.read_bytes()).public_key()
        except ValueError as error:
            raise BadInput(
                f"this is no private key ({error})", subject=str(key_path), hint="Delete it: a new one is made"
            ) from None
        wanted = _alternative_names(names)
        if not self._serves(path, key, wanted, datetime.now(UTC)):
            certificate = self._sign(key, "leeward console", _SERVER_DAYS, ExtendedKeyUsageOID.SERVER_AUTH, wanted)
            write_private(path, certificate.public_bytes(serialization.Encoding.PEM))
        return path, key_path

    def _serves(
        self, path: Path, key: ec.EllipticCurvePublicKey, names: x509.SubjectAlternativeName, now: datetime
    ) -> bool:
        try:
            found = x509.load_pem_x509_certificate(path.read_bytes())
            same_names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value == names
        except (OSError, ValueError, x509.ExtensionNotFound):
            return False
        begins, ends = found.not_valid_before_utc, found.not_valid_after_utc
        fresh = begins <= now < begins + (ends - begins) * RENEW_AT
        return same_names and fresh and found.public_key() == key and self._issued(found)

    def _issued(self, certificate: x509.Certificate) -> bool:
        try:
            certificate.verify_directly_issued_by(self._certificate)
        except Exception:  # the library has several kinds for "no"
            return False
        return True

    def issue_agent(self, csr_pem: bytes, agent_id: str, days: float = 90) -> bytes:
        """A client certificate for the key of a signing request; what else that asks for is ignored.

        Raises BadInput for a request that cannot be used.
        """
        key = request_key(csr_pem)
        certificate = self._sign(key, agent_id, days, ExtendedKeyUsageOID.CLIENT_AUTH, None)
        return certificate.public_bytes(serialization.Encoding.PEM)

    def _sign(
        self,
        key: ec.EllipticCurvePublicKey,
        name: str,
        days: float,
        usage: x509.ObjectIdentifier,
        names: x509.SubjectAlternativeName | None,
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        # Lives of minutes (tests, drills) must not begin in the past: two thirds would be over at once.
        begins = now - min(_BACKDATED, timedelta(days=days) / 1000)
        builder = (
            _certificate(name, self._certificate.subject, key, begins, now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if names is not None:
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self._key, hashes.SHA256())


def request_key(csr_pem: bytes) -> ec.EllipticCurvePublicKey:
    """The key of a signing request. Raises BadInput."""
    try:
        request = x509.load_pem_x509_csr(csr_pem)
        key = request.public_key()
        signed = request.is_signature_valid
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadInput(f"the certificate request cannot be read: {error}") from None
    if not signed:
        raise BadInput("the certificate request is not signed with its own key")
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise BadInput("the certificate request's key is not one of the curve P-256")
    return key


def read_peer(der: bytes) -> Peer:
    """An agent's certificate as the TLS layer hands it over, its chain verified. Raises BadInput."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (ValueError, x509.ExtensionNotFound) as error:
        raise BadInput(f"the certificate cannot be read: {error}") from None
    if len(names) != 1 or ExtendedKeyUsageOID.CLIENT_AUTH not in usage:
        raise BadInput("this is not an agent's certificate")
    return Peer(
        agent_id=str(names[0].value),
        serial=f"{certificate.serial_number:x}",
        issued=certificate.not_valid_before_utc,
        expires=certificate.not_valid_after_utc,
    )


def _new_authority() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    name = _name("Leeward console authority")
    certificate = (
        _certificate("Leeward console authority", name, key.public_key(), now - _BACKDATED, now + timedelta(_CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return _key_pem(key) + certificate.public_bytes(serialization.Encoding.PEM)


def _load(path: Path) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    content = path.read_bytes()
    try:
        key = _read_key(content)
        certificate = x509.load_pem_x509_certificate(content)
        trouble = "" if certificate.public_key() == key.public_key() else "key and certificate do not belong together"
    except ValueError as error:
        trouble = str(error)
    if trouble:
        raise BadInput(
            f"the console's authority is damaged ({trouble})",
            subject=str(path),
            hint="Restore it from a backup, or move it away: a new one is made, and all agents must enrol again",
        )
    return key, certificate


def _read_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """Raises ValueError."""
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (TypeError, UnsupportedAlgorithm) as error:
        raise ValueError(str(error)) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("not an elliptic curve key")  # noqa: TRY004
    return key


def _certificate(
    name: str, issuer: x509.Name, public: ec.EllipticCurvePublicKey, begins: datetime, ends: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative_names(names: Sequence[str]) -> x509.SubjectAlternativeName:
    if not names:
        raise BadInput("a listener's certificate needs at least one name")
    return x509.SubjectAlternativeName([_alternative_name(name) for name in sorted(set(names))])


def _alternative_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        pass
    try:
        ascii_name = name.encode("idna").decode("ascii")
    except UnicodeError:
        ascii_name = ""
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,253}", ascii_name):
        raise BadInput("this is neither a host name nor an address", subject=name)
    return x509.DNSName(ascii_name)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
