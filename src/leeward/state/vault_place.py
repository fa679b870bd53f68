"""Where this machine's vault is, as a file of mode 0600 beside the vault's key: for whoever has no database at hand,
the agent, the command line, and processes that outlive the daemon.

The file may be replaced at any time, by another process too; `stamp` tells that, and stores that were opened with
`following` open anew.
"""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path
from uuid import UUID

from leeward.domain.errors import BadInput, NotFound, StoreUnavailable
from leeward.logs import log
from leeward.ports.objects import ObjectStore
from leeward.state.files import write_private
from leeward.vault.facade import read_keyring
from leeward.vault.place import Place
from leeward.vault.stores.late import LateStore

DEFAULT_URL = "file:///var/lib/leeward/vault"


class PlaceFile:
    """given: by leeward.toml, and counts more than what was chosen; None: it says nothing. Thread-safe."""

    def __init__(self, state: Path, given: str | None = None) -> None:
        self.path = state / "keys" / "place.json"
        self.given = given
        self._lock = threading.Lock()
        self._known: tuple[object, Place] | None = None

    @property
    def url(self) -> str:
        return self.current().url

    def stamp(self) -> object:
        """Another one after each change."""
        if self.given is not None:
            return None
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns

    def current(self) -> Place:
        """Raises BadInput for a damaged file."""
        if self.given is not None:
            return Place(self.given)
        return self.chosen() or Place(DEFAULT_URL)

    def chosen(self) -> Place | None:
        """Whatever leeward.toml says; None when nothing was chosen. Raises BadInput for a damaged file."""
        with self._lock:
            try:
                found = self.path.stat()
                stamp = found.st_ino, found.st_mtime_ns
                if self._known is None or self._known[0] != stamp:
                    self._known = stamp, _read(self.path)
                return self._known[1]
            except (FileNotFoundError, NotADirectoryError):
                return None
            except PermissionError:
                raise _unreadable(self.path) from None

    def readable(self) -> Place | None:
        """As `chosen`; a damaged file counts as none."""
        try:
            return self.chosen()
        except BadInput:
            return None

    def save(self, place: Place) -> None:
        document = {"revision": place.revision, "url": place.url, "options": dict(place.options)}
        write_private(self.path, json.dumps(document, indent=1).encode())

    def supersede(self, place: Place, now: float, known: int = 0) -> None:
        """Save it as newer than what is here, and than the revision `known`, whatever the clock says. now: UTC
        seconds."""
        before = self.readable()
        newest = max(before.revision if before else 0, known)
        self.save(replace(place, revision=max(int(now * 1000), newest + 1)))

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)

    def following(self, retry_s: float | None, vault: UUID) -> LateStore:
        """The store there, which must exist; with the place as it then is, whenever it is used. vault: the one in
        use, which a place that comes later has to hold."""
        return LateStore(lambda: self.url, _Opener(self, retry_s, vault), self.stamp)


class _Opener:
    """Goes over to another place only if the same vault is there: a second log must not begin under a VM that is
    replicated, nor a recovered one lose its disks. Until then what is open stays."""

    def __init__(self, file: PlaceFile, retry_s: float | None, vault: UUID) -> None:
        self._file, self._retry_s, self._vault = file, retry_s, vault
        self._at: Place | None = None

    def __call__(self, before: ObjectStore | None) -> ObjectStore:
        """Who uses this knows that there is a vault: where none is found it is away."""
        try:
            place = self._file.current()
            store = place.open(create=False, retry_s=self._retry_s)
        except NotFound as gone:
            raise StoreUnavailable(gone.message, subject=gone.subject, hint=gone.hint) from None
        except BadInput as error:
            if before is None:
                raise
            log.warning("the vault's new place cannot be used; its former one stays", error=str(error))
            return before
        if before is not None and self._at is not None and place.where != self._at.where and not self._is_in(store):
            log.warning("another vault is at the new place; the former place stays", place=place.url)
            return before
        self._at = place
        return store

    def _is_in(self, store: ObjectStore) -> bool:
        try:
            return read_keyring(store).vault_id == self._vault
        except NotFound:
            return False


def _read(path: Path) -> Place:
    try:
        found = json.loads(path.read_bytes())
        return Place(str(found["url"]), _options(found["options"]), int(found["revision"]))
    except PermissionError:
        raise _unreadable(path) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(
            f"the file with the vault's place is damaged ({type(error).__name__})",
            subject=str(path),
            hint="Choose the place again",
        ) from None


def _options(found: dict[str, object]) -> dict[str, str | bool]:
    """Raises TypeError for what could not be told to agents either: their polls would fail."""
    options = {name: value for name, value in found.items() if isinstance(value, str | bool)}
    if len(options) < len(found):
        raise TypeError("neither text nor truth")
    return options


def _unreadable(path: Path) -> BadInput:
    return BadInput("the vault's place may not be read", subject=str(path), hint="Run this as root")
