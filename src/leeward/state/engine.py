"""SQLite and PostgreSQL behind one face: engines that are tuned and migrated, errors an operator can act on."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import URL, Connection, Engine, ExceptionContext, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError, OperationalError

from leeward.domain.errors import BadInput, LeewardError, Unavailable

_DRIVERS = ("sqlite", "sqlite+pysqlite", "postgresql", "postgresql+psycopg")
_CONNECT_S = 5
# A console that was frozen in the middle of a transaction must not hold the others' for ever.
_LOCK_MS = 10_000
_IDLE_MS = 10_000
_SILENT_MS = 8_000
_MIGRATION_LOCK_MS = 120_000
# Any number of ours: the advisory lock that lets one console at a time migrate. ASCII "Leeward".
_MIGRATION_KEY = 0x4C656577617264
# Alembic keeps what it works on in its module: one at a time in a process.
_migrating = threading.Lock()
_READING = "leeward_reading"
# Execution option of transactions that cannot write.
READ_ONLY = "postgresql_readonly"


def open_engine(url: str) -> Engine:
    """The database of a SQLAlchemy URL, brought to the newest tables.

    Raises BadInput for a URL that cannot be used, Unavailable while the server does not answer. Whatever is done with
    the engine later raises our errors too, except IntegrityError, which tells the caller what he wants to know.
    """
    parsed = _checked(url)
    engine = _create(parsed, f"-c lock_timeout={_LOCK_MS} -c idle_in_transaction_session_timeout={_IDLE_MS}")
    try:
        _migrate(engine, parsed)
    except BaseException:
        engine.dispose()
        raise
    return engine


def open_plainly(url: str, options: str) -> Engine:
    """A PostgreSQL database as it is, its tables left alone; they are made only where there are none of consoles yet.

    options: the server's, for each connection. Raises as `open_engine`.
    """
    parsed = _checked(url)
    engine = _create(parsed, options)
    try:
        if inspect(engine).has_table("seat"):
            _refuse_newer(engine, parsed)
        else:
            open_engine(url).dispose()  # which takes its time, whatever the options say
    except BaseException:
        engine.dispose()
        raise
    return engine


def _create(parsed: URL, options: str) -> Engine:
    try:
        engine = _postgresql(parsed, options) if is_postgresql(parsed) else _sqlite(parsed)
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise BadInput(
            f"the driver for this database is not installed ({error})",
            subject=shown(parsed),
            hint="Install leeward[postgresql]",
        ) from error

    @event.listens_for(engine, "handle_error")
    def translate(context: ExceptionContext) -> None:
        if context.is_pre_ping:
            # Of a connection that lay idle: the pool takes another, which it does for SQLAlchemy's own error only. Of
            # a server that goes down the driver reads the farewell before it sees that the line is cut.
            context.is_disconnect = isinstance(context.sqlalchemy_exception, OperationalError)
            return
        error = context.sqlalchemy_exception or context.original_exception
        if not isinstance(error, IntegrityError):
            raise _translation(error, parsed) from context.original_exception

    return engine


def is_postgresql(url: URL) -> bool:
    return url.get_backend_name() == "postgresql"


def shown(url: URL) -> str:
    """For messages: without the password."""
    return url.render_as_string(hide_password=True)


def _checked(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        parsed = None
    if parsed is None or parsed.drivername not in _DRIVERS:
        # The text itself may hold a password, so it is not repeated.
        raise BadInput(
            "this is no database that Leeward can use",
            subject="console.database",
            hint="sqlite:////folder/file.db or postgresql+psycopg://user@host/name",
        )
    return parsed


def _translation(error: BaseException, url: URL) -> LeewardError:
    """As ours, without the statement and its values, which may be secret."""
    said = str(error.orig) if isinstance(error, DBAPIError) else str(error)
    line = " ".join(said.split()).rstrip(" .?")
    if is_postgresql(url) and isinstance(error, OperationalError):
        return Unavailable(
            f"the database does not answer: {line}", subject=shown(url), hint="See whether PostgreSQL runs"
        )
    return LeewardError(
        f"the database cannot be opened or used: {line}",
        subject=shown(url),
        hint="See whether its folder is writable and its disk has room",
    )


def _sqlite(url: URL) -> Engine:
    engine = create_engine(url)

    @event.listens_for(engine, "connect")
    def tune(connection: Any, _: Any) -> None:
        # WAL lets readers and the one writer work together; full sync so that what was told survives a power cut.
        # The driver's own idea of when a transaction begins is put out of use: it would let reads stand outside one.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA busy_timeout=10000")
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # One that reads first and writes then would fail where another wrote in between: it takes its turn at once.
        only_reads = connection.get_execution_options().get(_READING)
        try:  # the driver itself: SQLAlchemy takes as long for these words as for a question
            connection.connection.cursor().execute("BEGIN" if only_reads else "BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise _translation(error, url) from error

    return engine


def _postgresql(url: URL, options: str) -> Engine:
    arguments: dict[str, Any] = {"connect_timeout": _CONNECT_S, "application_name": "leeward"}
    # A server that has lost its power, or a line that was cut, must not hold us for the kernel's quarter of an hour.
    arguments["tcp_user_timeout"] = _SILENT_MS
    arguments |= {"keepalives_idle": 4, "keepalives_interval": 2, "keepalives_count": 2}
    if "options" not in url.query:
        arguments["options"] = options
    # Pinged before use, so that a restarted server costs nobody an error.
    return create_engine(url, pool_pre_ping=True, pool_size=10, max_overflow=10, connect_args=arguments)


def reading(engine: Engine) -> Engine:
    """All of a transaction's reads see one instant, and wait for nobody."""
    if engine.dialect.name == "postgresql":
        return engine.execution_options(isolation_level="REPEATABLE READ", **{READ_ONLY: True})
    return engine.execution_options(**{_READING: True})


def _migrate(engine: Engine, url: URL) -> None:
    """In one transaction, so that whatever fails or dies leaves the old tables; one console at a time."""
    config = _config()
    with _migrating, engine.begin() as connection:
        if is_postgresql(url):
            connection.execute(text(f"SET LOCAL lock_timeout = {_MIGRATION_LOCK_MS}"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_KEY})
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise _newer(error, url) from error


def _refuse_newer(engine: Engine, url: URL) -> None:
    with engine.connect() as connection:
        revision = MigrationContext.configure(connection).get_current_revision()
    try:
        ScriptDirectory.from_config(_config()).get_revision(revision or "base")
    except CommandError as error:
        raise _newer(error, url) from error


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def _newer(error: CommandError, url: URL) -> LeewardError:
    return LeewardError(
        f"a newer Leeward made this database: {error}", subject=shown(url), hint="Use that version or a newer one"
    )
