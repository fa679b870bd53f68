import pytest

from leeward.agent.asking import may_stand, surely_gone
from leeward.domain.errors import HypervisorError
from leeward.domain.vm import Power
from leeward.hypervisors.memory import MemoryHypervisor


@pytest.fixture
def host():
    made = MemoryHypervisor("office")
    for power in Power:
        made.add(power.value, power.value, {"vda": bytes(65536)}, power)
    return made


def test_who_is_there_and_who_stands_still(host):
    assert [surely_gone(host, name) for name in ("running", "off", "paused", "other")] == [False, False, False, True]
    assert [may_stand(host, name) for name in ("running", "off", "paused", "other")] == [False, False, True, False]


def test_a_host_that_cannot_tell_may_have_it_and_have_it_standing(host, monkeypatch):
    def hang(vm_id):
        raise HypervisorError("the host does not answer", subject=vm_id)

    monkeypatch.setattr(host, "vm", hang)
    assert (surely_gone(host, "other"), may_stand(host, "off")) == (False, True)
