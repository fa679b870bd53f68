import pytest
from tests.network.discovery.strangers import Strangers, make_certificate, server_tls


@pytest.fixture
def crowd():
    crowd = Strangers()
    yield crowd
    crowd.close()


@pytest.fixture(scope="session")
def tls(tmp_path_factory):
    return server_tls(make_certificate(tmp_path_factory.mktemp("tls"), "hv01.office.example"))
