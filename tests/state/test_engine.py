"""A server that was restarted costs nobody an error."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from sqlalchemy import text
from tests.state.postgres import Postgres, find_programs, short_folder

from leeward.domain.errors import Unavailable
from leeward.state.engine import open_engine

_IDLE = 4


@pytest.fixture
def server():
    """Of this test alone, since it is stopped."""
    programs = find_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed")
    made = Postgres(programs, short_folder())
    try:
        made.start()
        yield made
    finally:
        made.remove()


def test_connections_that_lay_idle_while_the_server_was_restarted_are_replaced(server):
    engine = open_engine(server.url())
    together = Barrier(_IDLE)

    def ask(_):
        with engine.connect() as connection:
            together.wait(10)  # each with a connection of its own
            return connection.execute(text("SELECT 1")).scalar()

    with ThreadPoolExecutor(_IDLE) as pool:
        for _ in range(3):
            assert list(pool.map(ask, range(_IDLE))) == [1] * _IDLE
            server.stop()
            server.start()
        assert list(pool.map(ask, range(_IDLE))) == [1] * _IDLE
        server.stop()
        with pytest.raises(Unavailable, match="the database does not answer"), engine.connect():
            pass
    engine.dispose()
