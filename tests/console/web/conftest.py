import pytest
from tests.console.web.stand import Stand


@pytest.fixture
def stand(tmp_path):
    made = Stand(tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """For tests that leave everything as it was. Its three VMs are protected and have points."""
    made = Stand(tmp_path_factory.mktemp("shared"))
    made.world.protect_all()
    yield made
    made.close()
