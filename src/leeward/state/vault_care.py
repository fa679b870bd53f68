"""What is known of the vault over time: its size, and what checks of it have found."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import delete, select, update

from leeward.domain.growth import Size
from leeward.domain.texts import clip
from leeward.state.database import Database
from leeward.state.tables import VaultCheck, VaultSize

_KEEP_SIZES_S = 400 * 86_400.0
_KEEP_CHECKS = 50
# Of a vault that is broken all over, a page shows this many objects and points by name.
MOST_NAMED = 200


@dataclass(frozen=True, slots=True)
class Check:
    """deep: every block's hash, not only signatures and hashes of objects. began, ended: UTC seconds; ended None:
    it goes on. troubles: how many; named: (object, what is wrong), the first of them. hurt: VM id → ids of points
    that cannot be used. failure: why it did not come to its end, "" when it did."""

    id: int
    deep: bool
    by: str
    began: float
    ended: float | None = None
    objects: int = 0
    bytes: int = 0
    points: int = 0
    troubles: int = 0
    named: tuple[tuple[str, str], ...] = ()
    hurt: Mapping[str, Sequence[str]] = field(default_factory=dict)
    failure: str = ""

    @property
    def sound(self) -> bool:
        return self.ended is not None and not self.failure and not self.troubles


class VaultBook:
    """Thread-safe. Each method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add_size(self, size: Size) -> None:
        with self._database.writing() as session:
            session.merge(VaultSize(at=size.at, bytes=size.bytes))
            session.execute(delete(VaultSize).where(VaultSize.at < size.at - _KEEP_SIZES_S))

    def sizes(self, since: float) -> list[Size]:
        """Oldest first. since: UTC seconds."""
        with self._database.reading() as session:
            rows = session.scalars(select(VaultSize).where(VaultSize.at >= since).order_by(VaultSize.at)).all()
            return [Size(row.at, row.bytes) for row in rows]

    def begin(self, deep: bool, by: str, at: float) -> Check:
        with self._database.writing() as session:
            row = VaultCheck(deep=deep, by=clip(by), began=at, found="{}", failure="")
            session.add(row)
            session.flush()
            session.execute(delete(VaultCheck).where(VaultCheck.id <= row.id - _KEEP_CHECKS))
            return _check(row)

    def end(self, check: Check) -> None:
        found = {
            "named": list(check.named[:MOST_NAMED]),
            "hurt": {vm_id: list(points[:MOST_NAMED]) for vm_id, points in check.hurt.items()},
        }
        with self._database.writing() as session:
            session.execute(
                update(VaultCheck)
                .where(VaultCheck.id == check.id)
                .values(
                    ended=check.ended,
                    objects=check.objects,
                    bytes=check.bytes,
                    points=check.points,
                    troubles=check.troubles,
                    found=json.dumps(found),
                    failure=clip(check.failure, 4000),
                )
            )

    def end_left(self, at: float, failure: str) -> None:
        """Those that nobody carries on: the console that did has ended."""
        with self._database.writing() as session:
            session.execute(update(VaultCheck).where(VaultCheck.ended.is_(None)).values(ended=at, failure=failure))

    def damaged(self) -> int:
        """Objects, by the newest check that came to its end."""
        ended = select(VaultCheck.troubles).where(VaultCheck.ended.is_not(None), VaultCheck.failure == "")
        with self._database.reading() as session:
            return session.scalar(ended.order_by(VaultCheck.id.desc()).limit(1)) or 0

    def checks(self, limit: int) -> list[Check]:
        """Newest first."""
        with self._database.reading() as session:
            rows = session.scalars(select(VaultCheck).order_by(VaultCheck.id.desc()).limit(limit)).all()
            return [_check(row) for row in rows]


def _check(row: VaultCheck) -> Check:
    found = json.loads(row.found or "{}")
    return Check(
        id=row.id,
        deep=row.deep,
        by=row.by,
        began=row.began,
        ended=row.ended,
        objects=row.objects,
        bytes=row.bytes,
        points=row.points,
        troubles=row.troubles,
        named=tuple((key, what) for key, what in found.get("named", [])),
        hurt=found.get("hurt", {}),
        failure=row.failure,
    )
