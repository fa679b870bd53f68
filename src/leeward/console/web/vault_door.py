"""The vault as the dashboard's first steps see it: is there one, is it open, and how it comes about."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from enum import StrEnum

from leeward.console.room import Room
from leeward.domain.errors import BadInput, LeewardError, NotFound, Refused, WrongKey
from leeward.ports.objects import ObjectStore
from leeward.vault.crypto import Argon2, VaultKeys
from leeward.vault.facade import Vault, VaultInfo, fingerprint, read_keyring
from leeward.vault.stores.opening import local_folder

# Letters and digits without look-alikes; six groups of five are 148 bits.
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
LEAST = 12


class VaultState(StrEnum):
    """NONE: nothing at its place yet. LOCKED: there is one, whose key this machine does not hold. AWAY: its place
    cannot be reached."""

    OPEN = "open"
    NONE = "none"
    LOCKED = "locked"
    AWAY = "away"
    UNKNOWN = "unknown"


class VaultDoor:
    """url: of its place, which may be chosen yet. store: opens its place; True: make its folder when that is missing.
    load, save: the key that this machine holds; `load` raises NotFound when it holds none. steady: held while a vault
    is created or unlocked, since the place must not be another one when its key is kept. record: into the audit log:
    what, subject, detail."""

    def __init__(
        self,
        url: Callable[[], str],
        store: Callable[[bool], ObjectStore],
        load: Callable[[], VaultKeys],
        save: Callable[[VaultKeys], object],
        steady: AbstractContextManager[object],
        record: Callable[[str, str, str], object],
        cost: Argon2 | None = None,
    ) -> None:
        self._url = url
        self._store, self._load, self._save, self._cost = store, load, save, cost
        self._steady, self._record = steady, record

    @property
    def url(self) -> str:
        return self._url()

    def state(self) -> VaultState:
        try:
            store = self._store(False)
            ring = read_keyring(store)
        except NotFound:
            # Who holds its key knows that there is a vault: its disk is not mounted, say.
            return VaultState.AWAY if self.has_key() else VaultState.NONE
        except LeewardError:
            return VaultState.AWAY
        try:
            return VaultState.OPEN if self._load().vault_id == ring.vault_id else VaultState.LOCKED
        except LeewardError:
            return VaultState.LOCKED

    def has_key(self) -> bool:
        """Whether this machine works with a vault already, readable or not."""
        try:
            self._load()
        except NotFound:
            return False
        except LeewardError:
            return True
        return True

    def room(self) -> Room | None:
        """In the file system of a vault that lies on a disk of this machine; None for others, or when it cannot be
        asked."""
        folder = local_folder(self.url)
        if folder is None:
            return None
        try:
            found = shutil.disk_usage(folder)
        except OSError:
            return None
        return Room(found.used + found.free, found.free)

    def create(self, passphrase: str) -> tuple[str, str]:
        """(recovery key, fingerprint). The key is told this once and kept nowhere. Raises BadInput, Refused."""
        if len(passphrase) < LEAST or len(set(passphrase)) < 4:
            raise BadInput("the passphrase is too easy to guess", subject="passphrase")
        with self._steady:
            if self.has_key():
                raise Refused("this machine works with a vault already", subject=self.url, hint="Unlock that one")
            vault, recovery = Vault.create(self._store(True), passphrase, cost=self._cost)
            return recovery, self._kept(vault, "vault created")

    def unlock(self, secret: str) -> str:
        """By passphrase or recovery key; returns the vault's fingerprint. Raises WrongKey, NotFound."""
        with self._steady:
            store = self._store(False)
            try:
                vault = Vault.open(store, recovery_key=secret)
            except WrongKey:
                vault = Vault.open(store, passphrase=secret)
            return self._kept(vault, "vault unlocked")

    def _kept(self, vault: Vault, what: str) -> str:
        self._save(vault.keys)
        found = fingerprint(vault.public_key)
        self._record(what, self.url, found)
        return found

    def prove(self, recovery_key: str) -> None:
        """Whether this recovery key opens the vault. Raises WrongKey."""
        Vault.open(self._store(False), recovery_key=recovery_key)

    def info(self) -> VaultInfo:
        return Vault.open(self._store(False), keys=self._load()).info()


def suggested_passphrase() -> str:
    return "-".join("".join(secrets.choice(_ALPHABET) for _ in range(5)) for _ in range(6))
