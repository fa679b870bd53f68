import pytest
from tests.console.world import World


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
