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
