"""This machine's libvirt as a host, added while the agent runs; libvirt's own test driver stands for QEMU's."""

import json
import socket
import threading
import time

import pytest

from leeward.agent import here as module
from leeward.agent.added_hosts import added_hosts, all_hosts, keep_added
from leeward.agent.config import AgentConfig, HostConfig
from leeward.agent.here import LibvirtHere
from leeward.agent.wiring import build_agent
from leeward.domain.errors import BadInput, HypervisorError, LeewardError, Refused
from leeward.hypervisors.libvirt.connection import HostUnavailable
from leeward.hypervisors.libvirt.survey import survey
from leeward.ports.recovery_provider import Wanted

TEST = "test:///default"


@pytest.fixture
def agent(tmp_path):
    made = build_agent(AgentConfig("here", (), f"file://{tmp_path}/vault", tmp_path / "state"))
    made.start()
    yield made
    made.stop()


@pytest.fixture
def here(agent, tmp_path):
    spread = []
    made = LibvirtHere(agent, tmp_path / "state", on_added=lambda: spread.append(1), uri=TEST)
    made.spread = spread
    return made


def wanted(tmp_path, **more):
    return Wanted(**{"name": "north", "site": "recovery", "storage": str(tmp_path / "images"), **more})


def test_what_a_libvirt_has():
    found = survey("here", TEST)
    assert found.software.startswith("libvirt ")
    assert [(pool.name, pool.path) for pool in found.pools] == [("default-pool", "/default-pool")]
    assert found.networks == ("network:default",)
    assert not found.accelerated
    with pytest.raises(HypervisorError):
        survey("here", "qemu+unix:///system?socket=/nowhere")


def test_a_host_is_there_at_once_and_after_the_next_start(agent, here, tmp_path):
    assert (here.why_not(), here.hosts()) == ("", ())
    here.integrate(wanted(tmp_path, network="network:default"))
    (told,) = agent.link.hosts()
    assert (told.name, told.site, told.error) == ("north", "recovery", "")
    assert told.free is not None
    assert [vm.name for vm in told.vms] == ["test"]
    assert (here.hosts(), here.spread) == (("north",), [1])
    assert "a host already" in here.why_not()
    assert set(agent.copies) == {"north"}
    kept = HostConfig("north", "recovery", TEST, tmp_path / "images", "network:default")
    assert added_hosts(tmp_path / "state") == (kept,)
    again = build_agent(AgentConfig("here", all_hosts((), tmp_path / "state"), "file:///none", tmp_path / "state"))
    assert again.hosts() == (kept,)


def test_the_configuration_file_goes_first(here, tmp_path):
    here.integrate(wanted(tmp_path))
    same_name = HostConfig("north", "source", "qemu:///elsewhere")
    same_libvirt = HostConfig("office", "source", TEST)
    other = HostConfig("office", "source", "qemu:///elsewhere")
    assert all_hosts((same_name,), tmp_path / "state") == (same_name,)
    assert all_hosts((same_libvirt,), tmp_path / "state") == (same_libvirt,)
    assert [host.name for host in all_hosts((other,), tmp_path / "state")] == ["office", "north"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "a/b"}, "name"),
        ({"name": 'x"'}, "name"),
        ({"site": "moon"}, "site"),
        ({"storage": ""}, "storage"),
        ({"storage": "images"}, "storage"),
        ({"storage": "/"}, "storage"),
        ({"storage": "/proc/images"}, "storage"),
        ({"network": "bridge:none"}, "network"),
    ],
)
def test_what_cannot_be_used_is_told_by_field_and_nothing_is_kept(agent, here, tmp_path, changes, field):
    with pytest.raises(BadInput) as told:
        here.integrate(wanted(tmp_path, **changes))
    assert told.value.subject == field
    assert agent.link.hosts() == []
    assert added_hosts(tmp_path / "state") == ()


def test_one_libvirt_is_one_host(here, tmp_path):
    here.integrate(wanted(tmp_path, site="source", storage=""))
    with pytest.raises(Refused, match="a host already"):
        here.integrate(wanted(tmp_path, name="other"))


def test_consoles_that_share_a_database_have_no_hosts_of_their_own(agent, tmp_path):
    here = LibvirtHere(agent, tmp_path / "state", shared=True, uri=TEST)
    assert "share a database" in here.why_not()
    with pytest.raises(Refused):
        here.integrate(wanted(tmp_path))


def test_a_machine_without_libvirt_says_so(agent, tmp_path):
    here = LibvirtHere(agent, tmp_path / "state", uri="qemu+unix:///system?socket=/nowhere")
    assert here.why_not() == "no libvirt answers on this machine"
    with pytest.raises(HypervisorError):
        here.integrate(wanted(tmp_path))
    assert added_hosts(tmp_path / "state") == ()


@pytest.mark.parametrize("text", ["{", "5", '[{"name": "x"}]', json.dumps([["x"]])])
def test_a_list_that_cannot_be_read_is_told_and_not_taken_for_an_empty_one(tmp_path, text):
    (tmp_path / "hosts.json").write_text(text)
    with pytest.raises(BadInput, match="cannot be read"):
        added_hosts(tmp_path)


@pytest.fixture
def hung(agent, tmp_path, monkeypatch):
    """A libvirt that lets everybody connect and never says a word."""
    monkeypatch.setattr(module, "_SILENT_S", 0.3)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "libvirt"))
        listener.listen(64)
        made = LibvirtHere(agent, tmp_path / "state", uri=f"qemu+unix:///system?socket={tmp_path}/libvirt")
        made.listener = listener
        yield made


def surveys():
    return [thread for thread in threading.enumerate() if thread.name == "survey"]


@pytest.mark.timeout(30)
def test_a_libvirt_that_hangs_costs_one_thread_however_often_it_is_asked(hung, tmp_path):
    assert hung.why_not() == "no libvirt answers on this machine"
    began = time.monotonic()
    for _ in range(20):
        with pytest.raises(HostUnavailable, match="libvirt does not answer"):
            hung.survey()
    with pytest.raises(HostUnavailable, match="libvirt does not answer"):
        hung.integrate(wanted(tmp_path))
    assert hung._lock.acquire(blocking=False)
    assert time.monotonic() - began < 20 * 0.3  # its silence is known: nobody waits for it again
    assert len(surveys()) == 1
    assert added_hosts(tmp_path / "state") == ()


@pytest.mark.timeout(30)
def test_a_libvirt_that_has_hung_is_asked_again_when_it_is_back(hung):
    assert hung.why_not()
    hung.listener.close()  # it is started anew
    hung._asked.exception(20)
    hung._uri = TEST
    assert hung.survey().software.startswith("libvirt ")


def test_a_host_that_cannot_be_made_is_told_and_not_kept(agent, here, tmp_path):
    (tmp_path / "state" / "home").mkdir()
    blocked = tmp_path / "state" / "home" / "north"
    blocked.write_text("in the way")
    with pytest.raises(LeewardError, match="folders cannot be made: File exists"):
        here.integrate(wanted(tmp_path))
    assert added_hosts(tmp_path / "state") == ()
    assert (agent.hosts(), agent.copies, here.spread) == ((), {}, [])
    here.integrate(wanted(tmp_path, name="south"))
    assert [host.name for host in added_hosts(tmp_path / "state")] == ["south"]


def test_a_list_that_has_one_libvirt_twice_is_one_host(here, tmp_path):
    first, second = HostConfig("north", "source", TEST), HostConfig("south", "source", TEST)
    keep_added(tmp_path / "state", (first, second))
    assert all_hosts((), tmp_path / "state") == (first,)
    here.integrate(wanted(tmp_path, name="east"))
    assert [host.name for host in added_hosts(tmp_path / "state")] == ["east"]
