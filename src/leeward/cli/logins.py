"""What `leeward login` has stored: consoles, what vouches for them, and the secrets to use them. Mode 0600."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leeward.cli.remote import Target
from leeward.domain.errors import BadInput, LeewardError
from leeward.state.files import write_private


def logins_path() -> Path:
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "leeward" / "logins.json"


@dataclass(frozen=True, slots=True)
class Logins:
    """current: URL of the console that commands go to; None for this machine's daemon. targets: by URL."""

    current: str | None
    targets: dict[str, Target]

    @classmethod
    def load(cls) -> Logins:
        path = logins_path()
        try:
            raw = json.loads(path.read_text())
            targets = {url: Target(url, entry["token"], entry["ca"]) for url, entry in raw["consoles"].items()}
            return cls(raw["current"], targets)
        except (FileNotFoundError, NotADirectoryError):
            return cls(None, {})
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadInput(
                f"the stored logins cannot be read: {error!r}", subject=str(path), hint="Delete the file and sign in"
            ) from None

    def save(self) -> None:
        raw: dict[str, Any] = {
            "current": self.current,
            "consoles": {url: {"token": target.token, "ca": target.ca} for url, target in self.targets.items()},
        }
        try:
            write_private(logins_path(), json.dumps(raw, indent=1).encode())
        except OSError as error:
            raise LeewardError(f"the login cannot be stored: {error}", subject=str(logins_path())) from error

    def with_login(self, target: Target) -> Logins:
        return Logins(target.url, {**self.targets, target.url: target})

    def without(self, url: str) -> Logins:
        rest = {known: target for known, target in self.targets.items() if known != url}
        return Logins(None if self.current == url else self.current, rest)
