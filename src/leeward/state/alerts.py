"""Alerts in the database: what is or was wrong, and what each channel has told of it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, Select, bindparam, delete, func, select, update
from sqlalchemy.orm import Session

from leeward.domain.alerts import SEVERITIES, AlertKind, Decision, Severity, Telling
from leeward.domain.errors import NotFound, Refused
from leeward.domain.texts import clip
from leeward.state.database import Database
from leeward.state.tables import AlertRow, AlertSetting, AlertTelling

# What is still so is noted this often, with all that is open in one statement.
_NOTE_S = 60.0
# Alerts that ended longer ago are forgotten.
KEEP_S = 400 * 86_400.0
# More than any database takes in one statement must not be named one by one.
_BUNCH = 500
# Asked every few seconds: see `leeward.state.runs`.
_OPEN_KEYS = select(AlertRow.key).where(AlertRow.ended.is_(None))
_TELLINGS = (
    select(*[*AlertRow.__table__.columns, AlertTelling.times, AlertTelling.last])
    .join(AlertTelling, AlertRow.id == AlertTelling.alert_id)
    .where(AlertTelling.channel == bindparam("by"), AlertTelling.done.is_(False))
    .order_by(AlertRow.id)
)


@dataclass(frozen=True, slots=True)
class Alert:
    """As AlertRow has it."""

    id: int
    key: str
    kind: AlertKind
    subject: str
    name: str
    detail: str
    host: str
    began: float
    raised: float
    seen: float
    ended: float | None
    acknowledged: float | None
    acknowledged_by: str

    @property
    def severity(self) -> Severity:
        return SEVERITIES[self.kind]

    @property
    def state(self) -> str:
        """open, acknowledged or ended."""
        if self.ended is not None:
            return "ended"
        return "open" if self.acknowledged is None else "acknowledged"


class AlertBook:
    """Thread-safe. Of several consoles only the one that works writes here: the database sees to that."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._noted = 0.0

    # --- looking ------------------------------------------------------------------------------------

    def open(self) -> list[Alert]:
        """Newest first."""
        return self._find(select(AlertRow).where(AlertRow.ended.is_(None)))

    def open_keys(self) -> set[str]:
        with self._database.looking() as connection:
            return set(connection.scalars(_OPEN_KEYS))

    def find(
        self, *, past: bool | None = None, kind: AlertKind | None = None, before: int | None = None, limit: int = 100
    ) -> list[Alert]:
        """Newest first. past: those that are over, those that are not, None for both. before: only smaller ids."""
        query = select(AlertRow).limit(limit)
        if past is not None:
            query = query.where(AlertRow.ended.is_not(None) if past else AlertRow.ended.is_(None))
        if kind is not None:
            query = query.where(AlertRow.kind == kind.value)
        if before is not None:
            query = query.where(AlertRow.id < before)
        return self._find(query)

    def _find(self, query: Select[AlertRow]) -> list[Alert]:
        with self._database.reading() as session:
            return [_alert(row) for row in session.scalars(query.order_by(AlertRow.id.desc()))]

    def open_counts(self) -> dict[AlertKind, int]:
        """Of each kind that has any."""
        query = select(AlertRow.kind, func.count()).where(AlertRow.ended.is_(None)).group_by(AlertRow.kind)
        with self._database.reading() as session:
            return {AlertKind(kind): count for kind, count in session.execute(query)}

    # --- what the look decided ----------------------------------------------------------------------

    def apply(self, decision: Decision, now: float) -> None:
        """As one: an alert that is raised is also to be told of by all channels that are on, whenever we die."""
        with self._database.writing() as session:
            for trouble, held_s in decision.raised:
                row = AlertRow(
                    key=trouble.key,
                    kind=trouble.kind.value,
                    subject=clip(trouble.subject),
                    name=clip(trouble.name),
                    detail=clip(trouble.detail, 2000),
                    host=clip(trouble.host),
                    began=now - held_s,
                    raised=now,
                    seen=now,
                    acknowledged_by="",
                )
                session.add(row)
            session.flush()
            owe(session)
            for keys in _bunches(decision.ended):
                over = (AlertRow.ended.is_(None)) & (AlertRow.key.in_(keys))
                session.execute(update(AlertRow).where(over).values(ended=now))
            if self.note_due(now):
                self._noted = now
                self._note(session, decision, now)

    def note_due(self, now: float) -> bool:
        """Whether it is time to write down what is still so, even if nothing begins or ends."""
        return not 0 <= now - self._noted < _NOTE_S

    def _note(self, session: Session, decision: Decision, now: float) -> None:
        """What is still so, and its reason where that has changed."""
        going_on = {trouble.key: clip(trouble.detail, 2000) for trouble in decision.going_on}
        for keys in _bunches(tuple(going_on)):
            rows = session.scalars(select(AlertRow).where(AlertRow.ended.is_(None), AlertRow.key.in_(keys)))
            for row in rows:
                row.seen, row.detail = now, going_on[row.key]
        old = select(AlertRow.id).where(AlertRow.ended < now - KEEP_S)
        session.execute(delete(AlertTelling).where(AlertTelling.alert_id.in_(old)))
        session.execute(delete(AlertRow).where(AlertRow.ended < now - KEEP_S))

    def acknowledge(self, number: int, who: str, now: float) -> Alert:
        """The first one stays. Raises NotFound, Refused for one that is over."""
        with self._database.writing() as session:
            row = session.get(AlertRow, number, with_for_update=True)
            if row is None:
                raise NotFound("there is no such alert", subject=str(number))
            if row.ended is not None:
                raise Refused("this alert is over", subject=str(number))
            if row.acknowledged is None:
                row.acknowledged, row.acknowledged_by = now, clip(who)
            return _alert(row)

    # --- telling ------------------------------------------------------------------------------------

    def tellings(self, channel: str) -> list[tuple[Telling, Alert]]:
        """All of which the channel may have something to tell yet, oldest first."""
        with self._database.looking() as connection:
            return [(_telling(row), _alert(row)) for row in connection.execute(_TELLINGS, {"by": channel})]

    def told(self, channel: str, begun: Collection[int], ended: Collection[int], now: float) -> None:
        """Of these alerts a message was sent that says they are so, or over; the channel works."""
        with self._database.writing() as session:
            ours = AlertTelling.channel == channel
            for ids in _bunches(tuple(begun)):
                once_more = {"times": AlertTelling.times + 1, "last": now}
                session.execute(update(AlertTelling).where(ours, AlertTelling.alert_id.in_(ids)).values(once_more))
            for ids in _bunches(tuple(ended)):
                session.execute(update(AlertTelling).where(ours, AlertTelling.alert_id.in_(ids)).values(done=True))
            works = {"good": now, "failed": None, "error": "", "tries": 0, "again": 0.0}
            session.execute(update(AlertSetting).where(AlertSetting.name == channel).values(works))

    def trying(self, channel: str, tries: int, again: float) -> None:
        """A message is about to be sent. tries: with this one. again: when the next may be sent if we never learn, or
        cannot note, what came of it."""
        with self._database.writing() as session:
            values = {"tries": tries, "again": again}
            session.execute(update(AlertSetting).where(AlertSetting.name == channel).values(values))

    def failed(self, channel: str, error: str, again: float, now: float) -> None:
        """What was being tried has failed, at least in part."""
        with self._database.writing() as session:
            row = session.get(AlertSetting, channel, with_for_update=True)
            if row is not None:
                row.failed = row.failed if row.failed is not None else now
                row.error, row.tries, row.again = clip(error, 1000), max(row.tries, 1), again


def owe(session: Session) -> None:
    """Every channel that is on has to tell of every alert that is open; also one that has just been turned on."""
    for channel in session.scalars(select(AlertSetting.name).where(AlertSetting.enabled.is_(True))):
        known = select(AlertTelling.alert_id).where(AlertTelling.channel == channel)
        missing = select(AlertRow.id).where(AlertRow.ended.is_(None), AlertRow.id.not_in(known))
        for number in session.scalars(missing).all():
            session.add(AlertTelling(alert_id=number, channel=channel, times=0, last=0.0, done=False))
    session.flush()


def _bunches(values: Sequence[str] | Sequence[int]) -> list[Sequence[str] | Sequence[int]]:
    return [values[at : at + _BUNCH] for at in range(0, len(values), _BUNCH)]


def _alert(row: AlertRow | Row[Any]) -> Alert:
    return Alert(
        row.id,
        row.key,
        AlertKind(row.kind),
        row.subject,
        row.name,
        row.detail,
        row.host,
        row.began,
        row.raised,
        row.seen,
        row.ended,
        row.acknowledged,
        row.acknowledged_by,
    )


def _telling(row: Row[Any]) -> Telling:
    return Telling(row.id, row.times, row.last, row.raised, row.ended, row.acknowledged is not None)
