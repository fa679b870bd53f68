import pytest
from tests.console.conftest import quick  # noqa: F401
from tests.console.ready_tables import ready_tables, tables  # noqa: F401
from tests.console.stand import Host, Stand
from tests.no_power_cut import no_power_cut  # noqa: F401


@pytest.fixture
def make_stand(tmp_path):
    made = []

    def make(name="console", **how):
        made.append(Stand(tmp_path / name, **how))
        return made[-1]

    yield make
    for stand in made:
        stand.close()


@pytest.fixture
def stand(make_stand):
    return make_stand()


@pytest.fixture
def make_host(tmp_path):
    made = []

    def make(name="office"):
        made.append(Host(tmp_path / f"host-{name}", name))
        return made[-1]

    yield make
    for host in made:
        host.stop()


@pytest.fixture
def host(stand, make_host):
    """Enrolled with the stand and running."""
    made = make_host()
    made.enrol(stand.token())
    made.start()
    made.connected()
    return made
