"""Where the vault is, and with which credentials: chosen once, renewed when they change, told to agents.

It lies in two places. The file in the state folder (`PlaceFile`) is what this machine works with, without a database;
the row in the database, with its secrets sealed, is what all consoles share. The newer one of the two counts.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from leeward.console.alerts.sealing import Sealer
from leeward.domain.errors import BadInput, LeewardError, NotFound, Refused, StoreError, Unavailable
from leeward.logs import log
from leeward.state.database import Database
from leeward.state.vault_place import PlaceFile
from leeward.state.vault_place_book import KeptPlace, PlaceBook
from leeward.vault.crypto import VaultKeys
from leeward.vault.place import Place, must_hold, place_of, try_place, with_credentials
from leeward.wire.messages import PlaceMessage

_LOOK_S = 2.0
_OF = "vault place"


class PlaceView(BaseModel):
    """given: by leeward.toml, which counts more than what is chosen. handed: agents without a place of their own get
    it, with its credentials. options: nothing secret. secrets: names of those that are kept."""

    url: str
    kind: str
    given: bool
    handed: bool
    options: Mapping[str, str | bool]
    secrets: tuple[str, ...]


class VaultPlaces:
    """load_keys: raises NotFound while this machine holds no vault's key. told: called after each change. held: the
    highest revision that an agent holds; what is chosen or renewed here is newer, whatever an agent's clock said when
    it got its own. `start` on
    the console that works, `stop` before the database is closed. Thread-safe."""

    def __init__(
        self,
        database: Database,
        file: PlaceFile,
        sealer: Sealer,
        load_keys: Callable[[], VaultKeys],
        told: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.time,
        held: Callable[[], int] = lambda: 0,
    ) -> None:
        self.file = file
        self._database = database
        self._book = PlaceBook(database)
        self._sealer = sealer
        self._load_keys = load_keys
        self._told = told
        self._clock = clock
        self._held = held
        self._changing = threading.Lock()
        self._synced: object = None
        self._stop = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="vault-place", daemon=True)

    # --- looking ------------------------------------------------------------------------------------

    @property
    def given(self) -> bool:
        return self.file.given is not None

    def view(self) -> PlaceView:
        place = self.file.current()
        return PlaceView(
            url=place.url,
            kind=place.kind,
            given=self.given,
            handed=self.handed() is not None,
            options=place.plain,
            secrets=tuple(sorted(place.secret)),
        )

    def choosable(self) -> bool:
        """Whether the place may be chosen: nothing else says it, and no vault is in use here yet."""
        return not self.given and not self._holds_key()

    def handed(self) -> PlaceMessage | None:
        """What agents get that have no place of their own. A folder is of this machine; and what leeward.toml says is
        opened with credentials that its operator has put into the environment."""
        place = None if self.given else self.file.readable()
        if place is None or place.kind not in ("s3", "azure"):
            return None
        return PlaceMessage(revision=place.revision, url=place.url, options=dict(place.options))

    # --- changing -----------------------------------------------------------------------------------

    def steady(self) -> threading.Lock:
        """To be held where the place must not become another one meanwhile."""
        return self._changing

    def check(self, url: str, options: Mapping[str, Any]) -> tuple[Place, UUID | None]:
        """(the place, the id of the vault that is there or None). Raises LeewardError: why it is not fit."""
        place = place_of(url, options)
        return place, _tried(place)

    def choose(self, url: str, options: Mapping[str, Any]) -> UUID | None:
        """From now on the vault is there; returns its id when there is one already. Raises as `check`, and
        Refused."""
        with self._changing:
            if self.given:
                raise Refused("leeward.toml says where the vault is", hint="Change it there, or take its [vault] out")
            if self._holds_key():
                raise Refused("this console works with a vault already, whose place stays", hint=_MOVING)
            place, found = self.check(url, options)
            self._save(place)
            self._database.record("vault place chosen", place.url)
        return found

    def renew(self, credentials: Mapping[str, Any]) -> None:
        """Other credentials for the same place, once they have been tried. Raises LeewardError."""
        with self._changing:
            now = None if self.given else self.file.chosen()
            if now is None or now.kind not in ("s3", "azure"):
                raise Refused("this place needs no credentials that are kept here", hint=_ELSEWHERE)
            place = with_credentials(now, credentials)
            found, keys = _tried(place), self._keys()
            must_hold(place, found, keys.vault_id if keys else None)
            self._save(place)
            self._database.record("vault credentials renewed", place.url)

    def _save(self, place: Place) -> None:
        """The file first: what this machine works with. Killed in between, `sync` brings it into the database."""
        kept = self._book.kept()
        self.file.supersede(place, self._clock(), max(kept.revision if kept else 0, self._held()))
        self._sync()
        self._told()

    def _holds_key(self) -> bool:
        """A key that cannot be read is one all the same."""
        try:
            return self._keys() is not None
        except LeewardError:
            return True

    def _keys(self) -> VaultKeys | None:
        try:
            return self._load_keys()
        except NotFound:
            return None

    # --- both places alike --------------------------------------------------------------------------

    def sync(self) -> None:
        """Take over what another console, or the command line on this machine, has chosen since. Raises
        LeewardError."""
        with self._changing:
            if self._sync():
                self._told()

    def _sync(self) -> bool:
        """Whether something was taken over."""
        stamp = self.file.stamp()
        if self.given or (stamp is not None and stamp == self._synced):
            return False
        here, kept = self.file.readable(), self._book.kept()
        if here is not None and kept is not None and here.revision > kept.revision and here.revision <= self._held():
            # The command line on this machine has renewed it, and does not know of agents.
            self.file.supersede(here, self._clock(), self._held())
            here, stamp = self.file.readable(), self.file.stamp()
        if kept is not None and (here is None or kept.revision > here.revision):
            self.file.save(self._opened(kept))
            stamp = self.file.stamp()
        elif here is not None and (kept is None or here.revision > kept.revision):
            sealed = self._sealer.seal(json.dumps(here.secret), _bound(here.revision, here.url, here.plain))
            self._book.keep(KeptPlace(here.revision, here.url, here.plain, sealed))
        self._synced = stamp  # not what the file may have become meanwhile
        if here is None and kept is None:
            return False
        log.info("the vault's place", vault=self.file.url)
        return True

    def _opened(self, kept: KeptPlace) -> Place:
        try:
            secret = self._sealer.open(kept.secret, _bound(kept.revision, kept.url, kept.options))
        except Unavailable as error:
            raise Unavailable(error.message, subject=_OF, hint=error.hint) from None
        return Place(kept.url, {**kept.options, **json.loads(secret)}, kept.revision)

    def start(self) -> None:
        """A place whose secrets cannot be opened (another authority) is told in the log; it is chosen anew."""
        try:
            self.sync()
        except LeewardError as error:
            log.warning("the vault's place could not be taken over", error=str(error))
        self._keeper.start()

    def stop(self) -> None:
        self._stop.set()
        if self._keeper.is_alive():
            self._keeper.join(10)

    def _keep(self) -> None:
        while not self._stop.wait(_LOOK_S):
            try:
                if self.file.stamp() != self._synced:
                    self.sync()
            except LeewardError as error:
                log.debug("the vault's place was not looked at", error=str(error))
            except Exception:  # the next round tries again
                log.exception("the vault's place could not be looked at")


def _bound(revision: int, url: str, options: Mapping[str, str | bool]) -> str:
    """What credentials are sealed with: who alters the row in the database must not have them sent elsewhere."""
    return json.dumps([_OF, revision, url, dict(options)], sort_keys=True)


def _tried(place: Place) -> UUID | None:
    """What the store says to what somebody has typed is about that, and not about the console."""
    try:
        return try_place(place)
    except Unavailable:
        raise
    except StoreError as error:
        raise BadInput(error.message, subject=place.url, hint=error.hint) from None


_MOVING = "A vault is moved by hand: stop everything, copy all of its objects, then `leeward vault unlock --place`"
_ELSEWHERE = "They are in the environment of the console, where leeward.toml says where the vault is"
