"""Where the vault is, for all consoles of one database."""

from __future__ import annotations

import json
from dataclasses import dataclass

from leeward.state.database import Database
from leeward.state.tables import VaultPlaceRow

_VAULT = "vault"


@dataclass(frozen=True, slots=True)
class KeptPlace:
    """options: nothing secret. secret: credentials, sealed together with the rest."""

    revision: int
    url: str
    options: dict[str, str | bool]
    secret: str


class PlaceBook:
    """Thread-safe. Each method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def kept(self) -> KeptPlace | None:
        """None when nothing was ever chosen."""
        with self._database.reading() as session:
            row = session.get(VaultPlaceRow, _VAULT)
            return KeptPlace(row.revision, row.url, json.loads(row.options), row.secret) if row else None

    def keep(self, place: KeptPlace) -> None:
        """In place of an older one; a newer one stays."""
        with self._database.writing() as session:
            row = session.get(VaultPlaceRow, _VAULT, with_for_update=True)
            if row is not None and row.revision >= place.revision:
                return
            session.merge(
                VaultPlaceRow(
                    name=_VAULT,
                    revision=place.revision,
                    url=place.url,
                    options=json.dumps(place.options),
                    secret=place.secret,
                )
            )
