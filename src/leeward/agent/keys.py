"""The vault's keys as an unattended agent keeps them: a file of mode 0600 in its state folder.

Who can read this file can read the protected disks anyway, since it lies on the machine whose VMs they are. The
passphrase and the recovery key are never stored.
"""

from __future__ import annotations

import os
from pathlib import Path

from leeward.domain.errors import BadInput, NotFound
from leeward.vault.crypto import VaultKeys


def key_path(state_dir: Path) -> Path:
    return state_dir / "keys" / "vault.key"


def save_keys(state_dir: Path, keys: VaultKeys) -> Path:
    """Replace what is there: an agent works with one vault."""
    path = key_path(state_dir)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(keys.to_bytes())
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    return path


def load_keys(state_dir: Path) -> VaultKeys:
    path = key_path(state_dir)
    try:
        return VaultKeys.from_bytes(path.read_bytes())
    except FileNotFoundError:
        raise NotFound(
            "this machine does not hold the vault's key",
            subject=str(path),
            hint="Run `leeward vault init` for a new vault, or `leeward vault unlock` for one that exists",
        ) from None
    except ValueError as error:
        raise BadInput(
            f"the key file is damaged ({error})",
            subject=str(path),
            hint="Run `leeward vault unlock` with the passphrase or the recovery key",
        ) from error
