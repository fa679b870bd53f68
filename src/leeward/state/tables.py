"""SQL tables. Times are UTC, ISO 8601 text, so that SQLite and PostgreSQL agree."""

from __future__ import annotations

from sqlalchemy import Boolean, Float, Integer, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


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
    bandwidth: Mapped[int] = mapped_column(Integer)
    paused: Mapped[bool] = mapped_column(Boolean)
    claim: Mapped[int] = mapped_column(Integer, default=0)
    created: Mapped[str] = mapped_column(String(32))


class Counter(Base):
    """Numbers that only grow; `generation` is that of the desired state."""

    __tablename__ = "counter"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[int] = mapped_column(Integer)


class Event(Base):
    """What happened, for the history. subject: VM or host; who: the operator or "leeward"."""

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
