import pytest
from tests.console.web.kept_templates import keeping
from tests.console.web.stand import Stand

from leeward.console.web import painter


@pytest.fixture(scope="session")
def rooms():
    return keeping(painter._room)


@pytest.fixture(scope="module", autouse=True)
def kept_templates(rooms):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(painter, "_room", rooms)
        yield


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
