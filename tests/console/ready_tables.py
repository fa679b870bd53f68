"""New databases of tests that are not about tables: copied ready-made, where migrating took half of a test's time.

They know from each other how a statement is put into words, and wait for no disk (see no_power_cut.py).
"""

import os
import shutil
import sqlite3
import threading
from contextlib import closing, suppress
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.util import LRUCache

from leeward.state import engine as engines

_one_at_a_time = threading.Lock()


class _AnySQLite(SQLiteDialect_pysqlite):
    """Equals those of other engines, so that what was compiled for one is found by another."""

    supports_statement_cache = True

    def __eq__(self, other):
        return type(other) is type(self)

    def __hash__(self):
        return hash(_AnySQLite)


@pytest.fixture(scope="session")
def tables(tmp_path_factory):
    return _copying(tmp_path_factory.mktemp("tables"), engines._migrate)


@pytest.fixture(scope="module", autouse=True)
def ready_tables(tables):
    """Whether new databases are copied."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engines, "_migrate", tables)
        yield True


def _copying(folder, migrate):
    """Does what `migrate` does, but copies a SQLite file that is not there yet from one that it keeps in `folder`.

    One that has all tables already is left alone.
    """
    ready = folder / "ready.db"
    compiled = LRUCache(2000)

    def prepare(engine, url):
        if engine.dialect.name == "sqlite" and url.database:
            # No such folder, no room, no database: the database itself tells it below.
            with _one_at_a_time, suppress(OSError, sqlite3.Error):
                if not ready.exists():
                    _make(ready, url, migrate)
                if not Path(url.database).exists():
                    _copy(ready, url.database)
                if _revision(url.database) == _revision(ready):
                    _lighten(engine, compiled)
                    return
        migrate(engine, url)

    return prepare


def _copy(ready, name):
    copy = Path(shutil.copyfile(ready, f"{name}.copy"))
    try:
        os.link(copy, name)  # never over one that somebody else has just made
    finally:
        copy.unlink()


def _revision(name):
    with closing(sqlite3.connect(name)) as connection:
        return connection.execute("SELECT version_num FROM alembic_version").fetchall()


def _lighten(engine, compiled):
    """compiled: what all share."""
    engine.dialect.__class__ = _AnySQLite
    engine._compiled_cache = compiled

    @event.listens_for(engine, "connect")
    def tune(connection, _):
        connection.execute("PRAGMA synchronous=OFF")


def _make(ready, url, migrate):
    first = ready.with_suffix(".first")
    engine = engines._create(url.set(database=str(first)), "")
    migrate(engine, url)
    engine.dispose()  # the last one to close it leaves all of it in the one file
    first.rename(ready)
