"""The console's memory: migrated from nothing, kept across restarts, one daemon a folder."""

import sqlite3

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from leeward.domain.errors import LeewardError, Refused
from leeward.state.database import Database, FolderLock
from leeward.state.tables import Base
from leeward.wire.messages import PolicyMessage, ProtectionMessage

WISH = ProtectionMessage(vm_id="6c9a3f0e-5d0f-4a53-9d0e-5a1f6f2f3b11", vm_name="web", host="office")


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/leeward.db"


def test_generations_grow_and_everything_is_kept(url):
    database = Database(url)
    assert database.desired().generation == 0
    first = database.protect(WISH)
    changed = WISH.model_copy(update={"policy": PolicyMessage(rpo_s=1), "paused": True})
    second = database.protect(changed)
    assert (first.generation, second.generation) == (1, 2)
    database.close()
    again = Database(url)
    assert again.desired() == second
    assert again.desired().protections == (changed,)
    assert again.unprotect(WISH.vm_id).generation == 3
    assert again.unprotect(WISH.vm_id).generation == 3
    assert again.desired().protections == ()


def test_history_is_newest_first(url):
    database = Database(url)
    for n in range(5):
        database.record("protect", f"vm{n}")
    assert [event["subject"] for event in database.events(3)] == ["vm4", "vm3", "vm2"]


def test_migrations_make_exactly_the_tables(url):
    database = Database(url)
    with database._engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_wal_is_on(url, tmp_path):
    Database(url).close()
    with sqlite3.connect(tmp_path / "leeward.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_an_unusable_database_is_one_clear_error(tmp_path):
    with pytest.raises(LeewardError, match="cannot be opened"):
        Database(f"sqlite:///{tmp_path}/absent/leeward.db")


def test_one_daemon_a_folder(tmp_path):
    with FolderLock(tmp_path), pytest.raises(Refused):
        FolderLock(tmp_path)
    with FolderLock(tmp_path):
        pass
