import pytest
from tests.console.alerts.receivers import Receiver

from leeward.console.authority import Authority


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    return Authority.open(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def files(authority):
    return authority.server_files(["127.0.0.1"], "mail")


@pytest.fixture
def receiver():
    made = Receiver()
    yield made
    made.stop()
