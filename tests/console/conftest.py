import pytest
from tests.console.caller import Console
from tests.console.chaos import hurry
from tests.console.kept_routes import kept_routes, routes  # noqa: F401
from tests.console.ready_tables import ready_tables, tables  # noqa: F401
from tests.console.world import World
from tests.no_power_cut import no_power_cut  # noqa: F401


@pytest.fixture
def quick(monkeypatch):
    """Nothing waits longer than it must: see `hurry`."""
    hurry(monkeypatch)


@pytest.fixture
def make_world(tmp_path):
    made = []

    def make(**how):
        made.append(World(tmp_path, **how))
        return made[-1]

    yield make
    for world in made:
        world.close()


@pytest.fixture
def world(make_world):
    made = make_world()
    made.protect()
    return made


@pytest.fixture
def console(tmp_path):
    made = Console(tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """For tests that leave everything as it was."""
    made = Console(tmp_path_factory.mktemp("shared"))
    yield made
    made.close()
