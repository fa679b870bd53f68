"""Agents, their tokens and their jobs in the database."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TypeVar, cast

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Table, Update, bindparam, delete, select, update
from sqlalchemy.orm import Session

from leeward.domain.errors import Refused
from leeward.state.clock import now
from leeward.state.database import Database
from leeward.state.tables import AgentJob, AgentRow, AgentToken
from leeward.wire.jobs import Job, JobReport
from leeward.wire.messages import AgentReport, DesiredState, HostReport

_T = TypeVar("_T")
_HOSTS: TypeAdapter[tuple[HostReport, ...]] = TypeAdapter(tuple[HostReport, ...])
_REPORT = TypeAdapter(AgentReport)
_DESIRED = TypeAdapter(DesiredState)
# As long as an agent remembers a job that nobody asks for.
_TOMBSTONES = timedelta(days=30)
_HEARD_AT_ONCE = 50
_AGENTS = cast(Table, AgentRow.__table__)
# Below the ORM, whose updates of many rows cost several times as much.
_SAVE_HEARD = (
    update(_AGENTS).where(_AGENTS.c.id == bindparam("agent")).values(heard=bindparam("when"), hosts=bindparam("has"))
)
_SAVE_REPORT = _SAVE_HEARD.values(report=bindparam("told"))


@dataclass(slots=True)
class JobRecord:
    """released: its outcome has been noted; the record stays a while, so that the same job is never done again."""

    job: Job
    report: JobReport | None = None
    released: bool = False


@dataclass(slots=True)
class AgentRecord:
    """revoked: why it is refused, "" while it is not. heard: UTC, "" when it never told anything."""

    id: str
    name: str
    enrolled: str
    revoked: str = ""
    heard: str = ""
    desired: DesiredState | None = None
    report: AgentReport | None = None
    hosts: tuple[HostReport, ...] = ()
    jobs: dict[str, JobRecord] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Admission:
    """replaced: id of the agent whose name and work the new one took over, "" when there was none."""

    agent_id: str
    name: str
    replaced: str = ""


@dataclass(frozen=True, slots=True)
class UsedToken:
    """used: UTC. agent_id: who came of it."""

    used: str
    agent_id: str


class AgentRecords:
    """All methods are one transaction each, durable when they return. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # --- agents -------------------------------------------------------------------------------------

    def all(self) -> list[AgentRecord]:
        """In the order of their names; jobs in the order they were given."""
        with self._database.reading() as session:
            rows = session.scalars(select(AgentRow).order_by(AgentRow.name, AgentRow.enrolled)).all()
            return [_record(session, row) for row in rows]

    def one(self, agent_id: str) -> AgentRecord | None:
        with self._database.reading() as session:
            row = session.get(AgentRow, agent_id)
            return _record(session, row) if row else None

    def revoke(self, agent_id: str, reason: str) -> None:
        self._set(agent_id, revoked=reason)

    def save_desired(self, agent_id: str, desired: DesiredState) -> None:
        self._set(agent_id, desired=desired.model_dump_json())

    def _set(self, agent_id: str, **values: str) -> None:
        with self._database.session() as session:
            session.execute(update(AgentRow).where(AgentRow.id == agent_id).values(**values))
            session.commit()

    def save_heard(self, heard: Sequence[AgentRecord]) -> None:
        """What agents told, and the outcomes of their jobs. Losing it loses nothing: they tell it again. So it is
        written in parts: whoever waits for an answer gets in between."""
        for begin in range(0, len(heard), _HEARD_AT_ONCE):
            records = heard[begin : begin + _HEARD_AT_ONCE]
            with self._database.session() as session:
                connection = session.connection()
                told = [(_heard(record), record.report) for record in records]
                if quiet := [values for values, report in told if report is None]:
                    connection.execute(_SAVE_HEARD, quiet)
                if loud := [{**values, "told": report.model_dump_json()} for values, report in told if report]:
                    connection.execute(_SAVE_REPORT, loud)
                for record in records:
                    for job in record.jobs.values():
                        if job.report is not None:
                            # One that was released since has been noted, and is kept without what was large of it.
                            held = _of(record.id, job.job.id).where(AgentJob.released == "")
                            session.execute(held.values(report=job.report.model_dump_json()))
                session.commit()

    # --- jobs ---------------------------------------------------------------------------------------

    def add_job(self, agent_id: str, job: Job) -> None:
        with self._database.session() as session:
            session.add(AgentJob(agent_id=agent_id, job_id=job.id, job=job.model_dump_json()))
            session.commit()

    def release_job(self, agent_id: str, job_id: str, report: JobReport | None) -> None:
        told = {"report": report.model_dump_json()} if report else {}
        with self._database.session() as session:
            session.execute(_of(agent_id, job_id).values(released=now(), **told))
            session.commit()

    def prune_jobs(self) -> None:
        """Forget jobs that were released so long ago that their agent has forgotten them too."""
        limit = (datetime.now(UTC) - _TOMBSTONES).isoformat(timespec="seconds").replace("+00:00", "Z")
        with self._database.session() as session:
            session.execute(delete(AgentJob).where(AgentJob.released != "", AgentJob.released < limit))
            session.commit()

    # --- tokens -------------------------------------------------------------------------------------

    def add_token(self, token_hash: str, name: str, expires: str) -> None:
        with self._database.session() as session:
            # Old ones have told all that they can tell.
            limit = (datetime.now(UTC) - _TOMBSTONES).isoformat(timespec="seconds").replace("+00:00", "Z")
            session.execute(delete(AgentToken).where(AgentToken.expires < limit))
            session.add(AgentToken(hash=token_hash, name=name, created=now(), expires=expires))
            session.commit()

    def used_token(self, token_hash: str) -> UsedToken | None:
        """None while nobody has used it, and for one that nobody knows."""
        with self._database.reading() as session:
            token = session.get(AgentToken, token_hash)
            return UsedToken(token.used, token.agent_id) if token and token.used else None

    def redeem(self, token_hash: str, key_hash: str, proposed: str) -> Admission:
        """Turn a token into an agent, once. Raises Refused.

        The same key may come again with its token, since the answer to its first request may have been lost.
        """
        with self._database.session() as session:
            token = session.get(AgentToken, token_hash)
            if token is None:
                raise Refused("the console does not know this token", hint=_NEW_TOKEN)
            if token.used:
                return _again(session, token, key_hash)
            if now() > token.expires:
                raise Refused(f"the token expired at {token.expires}", hint=_NEW_TOKEN)
            name = token.name or proposed
            before = session.scalars(select(AgentRow).where(AgentRow.name == name, AgentRow.revoked == "")).first()
            if before is not None and not token.name:
                raise Refused(
                    "an agent of this name exists",
                    subject=name,
                    hint=f"To put this host in its place make a token with `leeward agents token --name {name}`",
                )
            agent = AgentRow(id=str(uuid.uuid4()), name=name, enrolled=now())
            taken = session.execute(
                update(AgentToken)
                .where(AgentToken.hash == token_hash, AgentToken.used == "")
                .values(used=now(), key_hash=key_hash, agent_id=agent.id)
            )
            if taken.rowcount != 1:  # type: ignore[attr-defined]
                raise Refused("the token was used just now by another host", hint=_NEW_TOKEN)
            if before is not None:
                _inherit(session, before, agent)
            session.add(agent)
            session.commit()
            return Admission(agent.id, name, before.id if before else "")


_NEW_TOKEN = "Make a new one on the console with `leeward agents token`"


def _again(session: Session, token: AgentToken, key_hash: str) -> Admission:
    agent = session.get(AgentRow, token.agent_id)
    if agent is None or token.key_hash != key_hash:
        raise Refused(
            f"the token was used already, at {token.used}" + (f" by {agent.name}" if agent else ""),
            hint="A token is for one host. " + _NEW_TOKEN,
        )
    if agent.revoked:
        raise Refused(f"the agent that this token was for is revoked: {agent.revoked}", hint=_NEW_TOKEN)
    return Admission(agent.id, agent.name)


def _inherit(session: Session, before: AgentRow, agent: AgentRow) -> None:
    """A host that was set up anew goes on where it was: wishes, facts and jobs are the new agent's now."""
    agent.desired, agent.report, agent.hosts, agent.heard = before.desired, before.report, before.hosts, before.heard
    session.execute(update(AgentJob).where(AgentJob.agent_id == before.id).values(agent_id=agent.id))
    before.revoked = f"replaced by a new enrolment at {now()}"
    before.desired = before.report = before.hosts = ""


def _of(agent_id: str, job_id: str) -> Update:
    return update(AgentJob).where(AgentJob.agent_id == agent_id, AgentJob.job_id == job_id)


def _heard(record: AgentRecord) -> dict[str, str]:
    return {"agent": record.id, "when": record.heard, "has": _HOSTS.dump_json(record.hosts).decode()}


def _record(session: Session, row: AgentRow) -> AgentRecord:
    jobs = session.scalars(select(AgentJob).where(AgentJob.agent_id == row.id).order_by(AgentJob.number)).all()
    return AgentRecord(
        id=row.id,
        name=row.name,
        enrolled=row.enrolled,
        revoked=row.revoked,
        heard=row.heard,
        desired=_read(_DESIRED, row.desired),
        report=_read(_REPORT, row.report),
        hosts=_read(_HOSTS, row.hosts) or (),
        jobs={job.job_id: _job(job) for job in jobs},
    )


def _read(kind: TypeAdapter[_T], text: str) -> _T | None:
    """A message that another version of Leeward left is no loss: it comes again, from the agent or the service."""
    try:
        return kind.validate_json(text) if text else None
    except ValidationError:
        return None


def _job(row: AgentJob) -> JobRecord:
    report = JobReport.model_validate_json(row.report) if row.report else None
    return JobRecord(Job.model_validate_json(row.job), report, bool(row.released))
