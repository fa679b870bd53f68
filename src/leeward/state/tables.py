"""SQL tables. Times are UTC: ISO 8601 text, so that SQLite and PostgreSQL agree, or seconds where they are reckoned
with."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Float, Integer, LargeBinary, String, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

# No id of a row is as large; a database that is asked for one fails.
TOO_LARGE_ID = 1 << 31


class Base(DeclarativeBase):
    pass


class ProtectedVm(Base):
    """One VM that the operator wants protected, and how."""

    __tablename__ = "protected_vm"

    vm_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    name: Mapped[str] = mapped_column(String(255))
    host: Mapped[str] = mapped_column(String(255))
    rpo_s: Mapped[float] = mapped_column(Float)
    retain_s: Mapped[float] = mapped_column(Float)
    hourly_s: Mapped[float] = mapped_column(Float, default=0.0)
    daily_s: Mapped[float] = mapped_column(Float, default=0.0)
    app_interval_s: Mapped[float] = mapped_column(Float)
    bandwidth: Mapped[int] = mapped_column(BigInteger)
    warm: Mapped[str] = mapped_column(String(255), default="")
    group: Mapped[str] = mapped_column("consistency_group", String(64), default="")
    group_s: Mapped[float] = mapped_column(Float, default=60.0)
    paused: Mapped[bool] = mapped_column(Boolean)
    claim: Mapped[int] = mapped_column(Integer, default=0)
    created: Mapped[str] = mapped_column(String(32))


class Counter(Base):
    """Numbers that only grow; `generation` is that of the desired state."""

    __tablename__ = "counter"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[int] = mapped_column(Integer)


class Event(Base):
    """What happened, for the history. subject: VM or host; who: a user, "local" or "leeward"."""

    __tablename__ = "event"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    time: Mapped[str] = mapped_column(String(32))
    what: Mapped[str] = mapped_column(String(64))
    subject: Mapped[str] = mapped_column(String(255))
    who: Mapped[str] = mapped_column(String(255))
    detail: Mapped[str] = mapped_column(Text)


class VmLife(Base):
    """Where a protected VM stands between its sites (see leeward.domain.lifecycle).

    home, away: host names; away "" until a first failover. definition: of the VM at home as it was when it left.
    run_id: the run that is moving it, or moved it last. version: counts changes, so that none is lost between two
    writers.
    """

    __tablename__ = "vm_life"

    vm_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    vm_name: Mapped[str] = mapped_column(String(255))
    phase: Mapped[str] = mapped_column(String(32))
    home: Mapped[str] = mapped_column(String(255))
    away: Mapped[str] = mapped_column(String(255))
    definition: Mapped[str] = mapped_column(Text)
    run_id: Mapped[str] = mapped_column(String(64))
    changed: Mapped[str] = mapped_column(String(32))
    version: Mapped[int] = mapped_column(Integer)


class RunRow(Base):
    """One run of a procedure (see leeward.domain.runs). document: all of it as JSON; the columns serve to find it."""

    __tablename__ = "run"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    vm_id: Mapped[str] = mapped_column(String(36), index=True)
    kind: Mapped[str] = mapped_column(String(32))
    state: Mapped[str] = mapped_column(String(16), index=True)
    created: Mapped[float] = mapped_column(Float, index=True)
    document: Mapped[str] = mapped_column(Text)
    version: Mapped[int] = mapped_column(Integer)


class EvidenceRow(Base):
    """A picture of what a test failover has shown (see leeward.state.evidence). at: UTC seconds of the test. picture:
    PNG of `size` bytes, empty when there is none; why: there is none."""

    __tablename__ = "evidence"

    run_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    vm_id: Mapped[str] = mapped_column(String(36), index=True)
    at: Mapped[float] = mapped_column(Float)
    picture: Mapped[bytes] = mapped_column(LargeBinary)
    size: Mapped[int] = mapped_column(Integer)
    why: Mapped[str] = mapped_column(Text)


class DrillRow(Base):
    """When a VM or a plan is to be tested again (subject: see leeward.domain.drills), and its last drill (see
    leeward.state.drills)."""

    __tablename__ = "drill"

    subject: Mapped[str] = mapped_column(String(80), primary_key=True)
    every_s: Mapped[float] = mapped_column(Float)
    mode: Mapped[str] = mapped_column(String(16))
    begins: Mapped[int] = mapped_column(Integer)
    ends: Mapped[int] = mapped_column(Integer)
    keep_s: Mapped[float] = mapped_column(Float)
    since: Mapped[float] = mapped_column(Float)
    run_id: Mapped[str] = mapped_column(String(64))
    tried: Mapped[float | None] = mapped_column(Float)
    outcome: Mapped[str] = mapped_column(String(16))
    cleaned: Mapped[float | None] = mapped_column(Float)


class AgentRow(Base):
    """An enrolled agent. revoked: why it is refused, "" while it is not. heard: when it last told something.

    desired, report, hosts: messages as JSON; what it is to do, and what was last heard.
    """

    __tablename__ = "agent"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    name: Mapped[str] = mapped_column(String(255))
    enrolled: Mapped[str] = mapped_column(String(32))
    revoked: Mapped[str] = mapped_column(String(255), default="")
    heard: Mapped[str] = mapped_column(String(32), default="")
    desired: Mapped[str] = mapped_column(Text, default="")
    report: Mapped[str] = mapped_column(Text, default="")
    hosts: Mapped[str] = mapped_column(Text, default="")


class AgentToken(Base):
    """A one-time token. hash: SHA-256 of its secret. name: what its agent will be called, "" lets the host choose.

    key_hash, agent_id, used: who used it; "" while nobody has.
    """

    __tablename__ = "agent_token"

    hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(255))
    created: Mapped[str] = mapped_column(String(32))
    expires: Mapped[str] = mapped_column(String(32))
    used: Mapped[str] = mapped_column(String(32), default="")
    key_hash: Mapped[str] = mapped_column(String(64), default="")
    agent_id: Mapped[str] = mapped_column(String(36), default="")


class AgentJob(Base):
    """A job given to an agent. report: what was last heard of it. released: when its outcome was noted, "" before."""

    __tablename__ = "agent_job"
    __table_args__ = (UniqueConstraint("agent_id", "job_id", name="uq_agent_job"),)

    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    agent_id: Mapped[str] = mapped_column(String(36))
    job_id: Mapped[str] = mapped_column(String(200))
    job: Mapped[str] = mapped_column(Text)
    report: Mapped[str] = mapped_column(Text, default="")
    released: Mapped[str] = mapped_column(String(32), default="")


class User(Base):
    """Somebody who may sign in. password: Argon2id in PHC notation."""

    __tablename__ = "console_user"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    password: Mapped[str] = mapped_column(String(255))
    role: Mapped[str] = mapped_column(String(16))
    created: Mapped[str] = mapped_column(String(32))


class Token(Base):
    """A secret for programs. digest: SHA-256 of the secret, which is kept nowhere. owner: user, None: the machine's
    root; a token goes with its owner and may never do more than he."""

    __tablename__ = "api_token"

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    name: Mapped[str] = mapped_column(String(64))
    role: Mapped[str] = mapped_column(String(16))
    owner: Mapped[str | None] = mapped_column(String(64), index=True)
    created: Mapped[str] = mapped_column(String(32))
    expires: Mapped[str | None] = mapped_column(String(32))
    last_used: Mapped[str | None] = mapped_column(String(32))


class Login(Base):
    """A user who has signed in. kind: browser or cli. digest: SHA-256 of the secret, which is kept nowhere."""

    __tablename__ = "login"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    user: Mapped[str] = mapped_column("user_name", String(64), index=True)
    kind: Mapped[str] = mapped_column(String(16))
    address: Mapped[str] = mapped_column(String(64))
    created: Mapped[str] = mapped_column(String(32))
    expires: Mapped[str] = mapped_column(String(32))
    last_used: Mapped[str] = mapped_column(String(32))


class SetupCode(Base):
    """What lets a person without an account make the first one. At most one row, and none once there are users."""

    __tablename__ = "setup_code"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    expires: Mapped[str] = mapped_column(String(32))


class AuditEntry(Base):
    """Who asked the console to change what, from where, and how it ended. outcome: begun, done, refused or failed;
    one that stays "begun" was under way when the console died. status: HTTP's, 0 while begun."""

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    time: Mapped[str] = mapped_column(String(32))
    who: Mapped[str] = mapped_column(String(255))
    address: Mapped[str] = mapped_column(String(64))
    what: Mapped[str] = mapped_column(String(64))
    subject: Mapped[str] = mapped_column(String(255))
    outcome: Mapped[str] = mapped_column(String(16))
    status: Mapped[int] = mapped_column(Integer)
    detail: Mapped[str] = mapped_column(Text)


class PlanRow(Base):
    """One recovery plan (see leeward.domain.plans). document: all of it as JSON. version: counts its changes and its
    runs, so that of two that begin a run at the same moment only one does."""

    __tablename__ = "plan"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    document: Mapped[str] = mapped_column(Text)
    created: Mapped[str] = mapped_column(String(32))
    changed: Mapped[str] = mapped_column(String(32))
    version: Mapped[int] = mapped_column(Integer)


class PlanRunRow(Base):
    """One run of a recovery plan (see leeward.domain.plan_runs). document: all of it, with the plan as it was; the
    columns serve to find it."""

    __tablename__ = "plan_run"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    plan: Mapped[str] = mapped_column(String(64), index=True)
    kind: Mapped[str] = mapped_column(String(16))
    state: Mapped[str] = mapped_column(String(16), index=True)
    created: Mapped[float] = mapped_column(Float, index=True)
    document: Mapped[str] = mapped_column(Text)
    version: Mapped[int] = mapped_column(Integer)


class SeatRow(Base):
    """Which of the consoles on this database works. One row, named "console". holder, instance: its console and its
    process. number: grows with each change of holder. expires: UTC seconds by the database's own clock."""

    __tablename__ = "seat"

    name: Mapped[str] = mapped_column(String(16), primary_key=True)
    holder: Mapped[str] = mapped_column(String(64))
    instance: Mapped[str] = mapped_column(String(32))
    number: Mapped[int] = mapped_column(BigInteger)
    expires: Mapped[float] = mapped_column(Float)


class ConsoleRow(Base):
    """A console on this database. instance: its process, "" when it was stopped. address, agents: https://host:port
    for people and for agents, "" for none. alone: it has hosts of its own, so that no other console can take its
    place. heard: UTC seconds by the database's own clock. trouble: why it could not take over, "" for nothing."""

    __tablename__ = "console"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    instance: Mapped[str] = mapped_column(String(32))
    address: Mapped[str] = mapped_column(String(255))
    agents: Mapped[str] = mapped_column(String(255))
    alone: Mapped[bool] = mapped_column(Boolean)
    heard: Mapped[float] = mapped_column(Float)
    software: Mapped[str] = mapped_column(String(64))
    trouble: Mapped[str] = mapped_column(String(255))


class Common(Base):
    """What all consoles on this database must have alike: fingerprint of the `authority`, id of the `vault`."""

    __tablename__ = "common"

    name: Mapped[str] = mapped_column(String(16), primary_key=True)
    value: Mapped[str] = mapped_column(String(255))


class AlertRow(Base):
    """Something that was wrong (see leeward.domain.alerts). key: what it is about; of one key at most one is open.
    subject: id of a VM or run, a host's name. host: where that is. began: since when it was so; raised: when it
    became an alert; seen: when it was last looked at and still so; ended: None while it is open. acknowledged: when,
    by whom. Times here are UTC seconds: they are reckoned with."""

    __tablename__ = "alert"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    key: Mapped[str] = mapped_column(String(300), index=True)
    kind: Mapped[str] = mapped_column(String(32))
    subject: Mapped[str] = mapped_column(String(255))
    name: Mapped[str] = mapped_column(String(255))
    detail: Mapped[str] = mapped_column(Text)
    host: Mapped[str] = mapped_column(String(255))
    began: Mapped[float] = mapped_column(Float)
    raised: Mapped[float] = mapped_column(Float)
    seen: Mapped[float] = mapped_column(Float)
    ended: Mapped[float | None] = mapped_column(Float, index=True)
    acknowledged: Mapped[float | None] = mapped_column(Float)
    acknowledged_by: Mapped[str] = mapped_column(String(255), default="")


class AlertTelling(Base):
    """What a channel has told of an alert, or has still to tell. times, last: as in leeward.domain.alerts.Telling.
    done: nothing more will be told."""

    __tablename__ = "alert_telling"

    alert_id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    channel: Mapped[str] = mapped_column(String(16), primary_key=True)
    times: Mapped[int] = mapped_column(Integer, default=0)
    last: Mapped[float] = mapped_column(Float, default=0.0)
    done: Mapped[bool] = mapped_column(Boolean, default=False)


class AlertSetting(Base):
    """What is set for alerts, as JSON: `rules`, and one row a channel. secret: sealed with a key that is not in the
    database, "" for none. The rest is of channels. enabled: it tells. good: when it last got a message through;
    failed: since when it does not, None while it does; error: why; tries: in a row; again: when it tries next."""

    __tablename__ = "alert_setting"

    name: Mapped[str] = mapped_column(String(16), primary_key=True)
    document: Mapped[str] = mapped_column(Text)
    secret: Mapped[str] = mapped_column(Text, default="")
    enabled: Mapped[bool] = mapped_column(Boolean, default=False)
    good: Mapped[float | None] = mapped_column(Float)
    failed: Mapped[float | None] = mapped_column(Float)
    error: Mapped[str] = mapped_column(Text, default="")
    tries: Mapped[int] = mapped_column(Integer, default=0)
    again: Mapped[float] = mapped_column(Float, default=0.0)


class VaultSize(Base):
    """How much lay in the vault. at: UTC seconds."""

    __tablename__ = "vault_size"

    at: Mapped[float] = mapped_column(Float, primary_key=True, autoincrement=False)
    bytes: Mapped[int] = mapped_column(BigInteger)


class VaultCheck(Base):
    """One verification of the whole vault, see leeward.state.vault_care.Check. found: JSON. ended: None while it
    goes on, or when the console died in it."""

    __tablename__ = "vault_check"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    deep: Mapped[bool] = mapped_column(Boolean)
    by: Mapped[str] = mapped_column(String(255))
    began: Mapped[float] = mapped_column(Float)
    ended: Mapped[float | None] = mapped_column(Float)
    objects: Mapped[int] = mapped_column(Integer, default=0)
    bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    points: Mapped[int] = mapped_column(Integer, default=0)
    troubles: Mapped[int] = mapped_column(Integer, default=0)
    found: Mapped[str] = mapped_column(Text, default="")
    failure: Mapped[str] = mapped_column(Text, default="")


class VaultPlaceRow(Base):
    """Where the vault is, as it was chosen; one row, "vault". revision: grows with each change. options: JSON without
    secrets.
    secret: credentials as JSON, sealed."""

    __tablename__ = "vault_place"

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    revision: Mapped[int] = mapped_column(BigInteger)
    url: Mapped[str] = mapped_column(Text)
    options: Mapped[str] = mapped_column(Text)
    secret: Mapped[str] = mapped_column(Text)


class IntegrationRow(Base):
    """How far somebody has come with integrating a service. document: as JSON (see `leeward.console.integration`).

    version: counts changes, so that none is lost between two people who do it at once.
    """

    __tablename__ = "integration"

    service: Mapped[str] = mapped_column(String(32), primary_key=True)
    document: Mapped[str] = mapped_column(Text)
    changed: Mapped[str] = mapped_column(String(32))
    version: Mapped[int] = mapped_column(Integer)
