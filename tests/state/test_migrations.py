"""Every revision that was ever released leads to today's tables, with all that was in it."""

import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Boolean, Float, Integer, LargeBinary, MetaData, create_engine, event, insert, select, text

import leeward.state
from leeward.domain.errors import LeewardError
from leeward.state import engine as engines
from leeward.state.database import Database
from leeward.state.tables import Base

CONFIG = Config()
CONFIG.set_main_option("script_location", str(Path(leeward.state.__file__).parent / "migrations"))
REVISIONS = [script.revision for script in ScriptDirectory.from_config(CONFIG).walk_revisions()][::-1]


@pytest.fixture(scope="module", autouse=True)
def ready_tables():
    return False


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    """Nobody cuts the power: SQLite need not wait for the disk."""
    create = engines._create
    monkeypatch.setattr(engines, "_create", lambda url, options: without_waiting(create(url, options)))


def without_waiting(engine):
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))
    return engine


# table → old name of a column → new one
RENAMED = {"drill": {"vm_id": "subject"}}


def made_up(column, number):
    """A value of the column's type that no default would be."""
    if column.name == "vm_id":
        return f"00000000-0000-0000-0000-{number:012}"
    if isinstance(column.type, Boolean):
        return True
    if isinstance(column.type, Integer):
        return 100 + number
    if isinstance(column.type, Float):
        return 100.5 + number
    if isinstance(column.type, LargeBinary):
        return bytes([number]) * 3
    return f"{column.name}{number}"[: column.type.length]


def reflected(engine):
    metadata = MetaData()
    metadata.reflect(engine)
    return metadata


def contents(engine, metadata):
    """{table: [row as dict]} of everything but alembic's own note."""
    with engine.connect() as connection:
        return {
            table.name: [dict(row) for row in connection.execute(select(table)).mappings()]
            for table in metadata.sorted_tables
            if table.name != "alembic_version"
        }


@pytest.mark.parametrize("revision", REVISIONS)
def test_data_of_every_old_revision_is_kept(url, revision):
    engine = without_waiting(create_engine(url))
    with engine.begin() as connection:
        CONFIG.attributes["connection"] = connection
        command.upgrade(CONFIG, revision)
    metadata = reflected(engine)
    with engine.begin() as connection:
        for table in metadata.sorted_tables:
            if table.name != "alembic_version":
                for number in (1, 2):
                    columns = [
                        column for column in table.columns if column.name != "id" or column.type.python_type is str
                    ]
                    row = {column.name: made_up(column, number) for column in columns}
                    connection.execute(insert(table), row)
    before = contents(engine, metadata)
    assert before["protected_vm"][0]["rpo_s"] == 101.5

    database = Database(url)
    after = contents(engine, Base.metadata)  # see below: exactly these tables
    for name, rows in before.items():
        for old in rows:
            row = {RENAMED.get(name, {}).get(column, column): value for column, value in old.items()}
            assert any(row.items() <= found.items() for found in after[name]), (name, row)
    assert [wish.vm_name for wish in database.desired().protections] == ["name1", "name2"]
    assert database.protect(database.desired().protections[0]).generation == 1
    database.record("later", "after the old ones")
    assert [event["subject"] for event in database.events()] == ["after the old ones", "subject2", "subject1"]
    database.close()
    engine.dispose()


def test_migrations_make_exactly_the_tables(database):
    with database._engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_revisions_are_one_line():
    assert ScriptDirectory.from_config(CONFIG).get_heads() == [REVISIONS[-1]]


@pytest.mark.slow
def test_consoles_that_open_one_fresh_database_at_once(url):
    program = (
        "import sys, alembic.command, leeward.state.tables; from leeward.state.database import Database\n"
        "print('ready', flush=True); sys.stdin.readline(); Database(sys.argv[1]).close()"
    )
    command = [sys.executable, "-c", program, url]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    started = [subprocess.Popen(command, text=True, **pipes) for _ in range(4)]
    for process in started:
        assert process.stdout.readline() == "ready\n"
    for process in started:
        process.stdin.write("\n")
        process.stdin.flush()
    for process in started:
        assert process.wait(60) == 0, process.stderr.read()
    database = Database(url)
    assert database.desired().generation == 0
    database.close()


def test_a_migration_that_fails_leaves_what_was(url, monkeypatch):
    engine = without_waiting(create_engine(url))
    with engine.begin() as connection:
        CONFIG.attributes["connection"] = connection
        command.upgrade(CONFIG, REVISIONS[0])
        connection.execute(text("CREATE TABLE audit (id INTEGER)"))  # in the way of a later revision
    before = contents(engine, reflected(engine))
    with pytest.raises(LeewardError, match="audit"):
        Database(url)
    assert contents(engine, reflected(engine)) == before
    engine.dispose()


def test_a_newer_leeward_is_told(url):
    Database(url).close()
    engine = without_waiting(create_engine(url))
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(LeewardError, match="newer Leeward"):
        Database(url)
