"""Each test of the console's memory runs on a SQLite file and on a real PostgreSQL."""

import os

import pytest
from tests.console.ready_tables import ready_tables, tables  # noqa: F401
from tests.state.postgres import Postgres, find_programs, short_folder

from leeward.state.database import Database


@pytest.fixture(scope="session")
def postgres():
    programs = find_programs()
    if programs is None:
        if os.environ.get("CI"):
            pytest.fail("PostgreSQL is not installed")
        pytest.skip("PostgreSQL is not installed")
    server = Postgres(programs, short_folder())
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path, ready_tables):  # noqa: F811
    """Of a new database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/leeward.db"
    server = request.getfixturevalue("postgres")
    return server.ready() if ready_tables else server.fresh()


@pytest.fixture
def open_database(url):
    """open_database() → another Database on the same URL; all are closed at the end."""
    opened = []

    def make():
        opened.append(Database(url))
        return opened[-1]

    yield make
    for database in opened:
        database.close()


@pytest.fixture
def database(open_database):
    return open_database()
