"""Keys and how they are kept: a random data key and a signing key, wrapped under a passphrase and a recovery key."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import struct
import uuid
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from leeward.domain.errors import BadInput, Damaged, WrongKey

_KEYS_MAGIC = b"LWKEYS01"
_CHECK_BYTES = 3
# Bytes of an Ed25519 public key.
PUBLIC_KEY_SIZE = 32


@dataclass(frozen=True, slots=True)
class Argon2:
    """Cost of the passphrase's derivation. The defaults are RFC 9106's second recommended option (64 MiB, 3×)."""

    memory_kib: int = 65536
    iterations: int = 3
    lanes: int = 4


@dataclass(frozen=True)
class VaultKeys:
    """All that is secret of a vault: 32 bytes of data key, 32 bytes of Ed25519 seed; and the vault's id."""

    vault_id: uuid.UUID
    data_key: bytes = field(repr=False)
    seed: bytes = field(repr=False)

    @staticmethod
    def generate() -> VaultKeys:
        return VaultKeys(uuid.uuid4(), os.urandom(32), os.urandom(32))

    # Kept, since each object is signed, and deriving the one or the other from the seed takes as long as signing.
    @cached_property
    def signer(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.seed)

    @cached_property
    def public_key(self) -> bytes:
        return self.signer.public_key().public_bytes_raw()

    def to_bytes(self) -> bytes:
        body = _KEYS_MAGIC + self.vault_id.bytes + self.data_key + self.seed
        return body + hashlib.sha256(body).digest()[:8]

    @staticmethod
    def from_bytes(raw: bytes) -> VaultKeys:
        """Raises ValueError for anything that `to_bytes` did not make."""
        body, check = raw[:-8], raw[-8:]
        if len(raw) != 96 or body[:8] != _KEYS_MAGIC or hashlib.sha256(body).digest()[:8] != check:
            raise ValueError("not a key file, or altered")
        return VaultKeys(uuid.UUID(bytes=body[8:24]), body[24:56], body[56:88])


def verify(public_key: bytes, signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def object_cipher(data_key: bytes, salt: bytes, binding: bytes) -> AESGCM:
    """The cipher of one object. Its key depends on the object's identity, so nothing opens in another's place."""
    derived = HKDF(hashes.SHA256(), 32, salt, b"leeward object 1" + binding).derive(data_key)
    return AESGCM(derived)


def nonce(frame: int) -> bytes:
    """12 bytes; never repeats under one key, since every object has its own random salt and each frame its number."""
    return struct.pack("<Q4x", frame)


# --- recovery key as text --------------------------------------------------------------------------------


def recovery_text(key: bytes) -> str:
    """32 bytes as base32 in groups of seven, with a checksum that finds typing errors."""
    check = hashlib.sha256(b"leeward recovery key" + key).digest()[:_CHECK_BYTES]
    text = base64.b32encode(key + check).decode()  # 35 bytes → 56 characters, no padding
    return "-".join(text[at : at + 7] for at in range(0, len(text), 7))


def recovery_bytes(text: str) -> bytes:
    """Forgiving about case, spaces and dashes. Raises WrongKey with the reason when it cannot be a recovery key."""
    plain = "".join(text.split()).replace("-", "").upper().replace("0", "O").replace("1", "I").replace("8", "B")
    try:
        raw = base64.b32decode(plain)
    except ValueError:
        raw = b""
    if len(raw) != 32 + _CHECK_BYTES:
        raise WrongKey("this is not a recovery key", hint="It has 8 groups of 7 letters and digits")
    key, check = raw[:32], raw[32:]
    if hashlib.sha256(b"leeward recovery key" + key).digest()[:_CHECK_BYTES] != check:
        raise WrongKey("the recovery key has a typing error", hint="Compare it with your print-out")
    return key


# --- keyring -----------------------------------------------------------------------------------------------


def seal_keyring(
    keys: VaultKeys, passphrase: str, recovery_key: bytes, created: str, cost: Argon2 | None = None
) -> bytes:
    """The keyring object: JSON with everything public in clear and the secrets wrapped twice."""
    cost = cost or Argon2()
    if not passphrase:
        raise BadInput("the passphrase is empty")
    salt = os.urandom(16)
    secrets = keys.data_key + keys.seed
    ring = {
        "leeward": "keyring",
        "version": 1,
        "vault": str(keys.vault_id),
        "created": created,
        "public_key": keys.public_key.hex(),
        "passphrase": {
            "argon2id": {"memory_kib": cost.memory_kib, "iterations": cost.iterations, "lanes": cost.lanes},
            "salt": salt.hex(),
            "sealed": _wrap(_derive(passphrase, salt, cost), secrets, keys.vault_id),
        },
        "recovery_key": {"sealed": _wrap(_stretch(recovery_key), secrets, keys.vault_id)},
    }
    return json.dumps(ring, indent=1).encode()


@dataclass(frozen=True, slots=True)
class Keyring:
    """A parsed keyring object."""

    vault_id: uuid.UUID
    created: str
    public_key: bytes
    raw: dict[str, Any]

    @staticmethod
    def parse(data: bytes, key: str) -> Keyring:
        try:
            ring = json.loads(data)
            if (ring["leeward"], ring["version"]) != ("keyring", 1):
                raise Damaged("the keyring has a version that is not known here", subject=key)
            public = bytes.fromhex(ring["public_key"])
            return Keyring(uuid.UUID(ring["vault"]), str(ring["created"]), public, ring)
        except (ValueError, KeyError, TypeError) as error:
            raise Damaged(f"the keyring cannot be read ({error})", subject=key) from error

    def open_with_passphrase(self, passphrase: str) -> VaultKeys:
        """Raises WrongKey."""
        part = self.raw["passphrase"]
        cost = Argon2(**part["argon2id"])
        secrets = _unwrap(_derive(passphrase, bytes.fromhex(part["salt"]), cost), part["sealed"], self.vault_id)
        if secrets is None:
            raise WrongKey("the passphrase does not open this vault", hint="Try again, or use the recovery key")
        return self._keys(secrets)

    def open_with_recovery_key(self, text: str) -> VaultKeys:
        """Raises WrongKey."""
        sealed = self.raw["recovery_key"]["sealed"]
        secrets = _unwrap(_stretch(recovery_bytes(text)), sealed, self.vault_id)
        if secrets is None:
            raise WrongKey("this recovery key belongs to another vault", hint="Use the passphrase")
        return self._keys(secrets)

    def _keys(self, secrets: bytes) -> VaultKeys:
        keys = VaultKeys(self.vault_id, secrets[:32], secrets[32:])
        if keys.public_key != self.public_key:
            raise Damaged("the keyring's public key does not belong to its signing key", subject="keyring")
        return keys


def _derive(passphrase: str, salt: bytes, cost: Argon2) -> bytes:
    kdf = Argon2id(salt=salt, length=32, iterations=cost.iterations, lanes=cost.lanes, memory_cost=cost.memory_kib)
    return kdf.derive(passphrase.encode())


def _stretch(recovery_key: bytes) -> bytes:
    return HKDF(hashes.SHA256(), 32, None, b"leeward recovery key 1").derive(recovery_key)


def _wrap(key: bytes, secrets: bytes, vault_id: uuid.UUID) -> str:
    start = os.urandom(12)
    return (start + AESGCM(key).encrypt(start, secrets, vault_id.bytes)).hex()


def _unwrap(key: bytes, sealed: str, vault_id: uuid.UUID) -> bytes | None:
    raw = bytes.fromhex(sealed)
    try:
        return AESGCM(key).decrypt(raw[:12], raw[12:], vault_id.bytes)
    except InvalidTag:
        return None
