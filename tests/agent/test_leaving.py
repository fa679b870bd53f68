"""A host is let go of while the agent runs; libvirt's own test driver stands for QEMU's."""

import gc
import sys
import threading
import time
import weakref
from contextlib import nullcontext

import pytest
from tests.console.stand import until

from leeward.agent import wiring
from leeward.agent.added_hosts import added_hosts, all_hosts, keep_added
from leeward.agent.agent import Source
from leeward.agent.config import AgentConfig, HostConfig
from leeward.agent.here import LibvirtHere
from leeward.agent.leaving import Traces, refusal
from leeward.agent.ledger import StandDown
from leeward.agent.wiring import build_agent
from leeward.domain.errors import LeewardError, NotFound, Refused
from leeward.domain.vm import Power
from leeward.hypervisors.memory import MemoryHypervisor
from leeward.ports.recovery_provider import Wanted
from leeward.recovery.durable import save_json
from leeward.recovery.home_records import HomeRecord, HomeRecords
from leeward.recovery.records import CopyRecord, CopyRecords
from leeward.wire.jobs import Job, JobKind
from leeward.wire.messages import DesiredState, PolicyMessage, ProtectionMessage, ReplicaMessage, StandDownMessage

TEST = "test:///default"
VM = "6695eb01-f6a4-8304-79aa-97f2502e193f"  # of the test driver


def fresh(tmp_path, hosts=()):
    return build_agent(AgentConfig("here", hosts, f"file://{tmp_path}/vault", tmp_path / "state"))


@pytest.fixture
def agent(tmp_path):
    made = fresh(tmp_path)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def here(agent, tmp_path):
    made = LibvirtHere(agent, tmp_path / "state", uri=TEST)
    made.integrate(Wanted("north", "recovery", str(tmp_path / "images")))
    return made


def kept(tmp_path):
    return [host.name for host in added_hosts(tmp_path / "state")]


def test_the_first_reason_counts_and_names_the_vms():
    assert refusal("north", Traces()) is None
    why = refusal("north", Traces(replicated=("web", "db"), copies=("x",)))
    assert (why.message, why.subject) == ("VMs are replicated from it: db, web", "north")


def test_a_host_that_comes_back_under_another_name_keeps_off_whom_it_kept_off(tmp_path):
    first = fresh(tmp_path, (HostConfig("office", "source", TEST),))
    first.agent.stand_down(StandDown(VM, "test", "office", "it runs at recovery"))
    again = fresh(tmp_path, (HostConfig("north", "source", TEST),))
    again.agent._guard.look()
    (off,) = again.link.report().standdowns
    assert (off.host, off.vm_id, off.note.startswith("the host is not")) == ("north", VM, False)
    lists = tmp_path / "state" / "kept-off"
    assert VM in (lists / "office.list").read_text()  # which libvirt's hook may look into
    again.agent.stand_up(VM, "north")
    assert [path.read_text() for path in sorted(lists.glob("*.list"))] == ["", ""]


def test_a_host_keeps_its_name_while_vms_are_protected_there(tmp_path):
    first = fresh(tmp_path, (HostConfig("office", "source", TEST),))
    wish = ProtectionMessage(vm_id=VM, vm_name="test", host="office", policy=PolicyMessage(), claim=0)
    first.agent._ledger.save_desired(DesiredState(generation=1, protections=(wish,)))
    with pytest.raises(Refused, match=r"called office so far.*: test") as refused:
        fresh(tmp_path, (HostConfig("north", "source", TEST),))
    assert "Call it office" in refused.value.hint
    assert fresh(tmp_path, (HostConfig("office", "source", TEST),)).agent._ledger.desired.protections == (wish,)


def test_one_that_is_added_anew_under_another_name_as_well(agent, here, tmp_path):
    here.remove("north")
    here.integrate(Wanted("south", "recovery", str(tmp_path / "images")))
    agent.agent.stand_down(StandDown(VM, "test", "south", "it runs at office"))
    assert VM in (tmp_path / "state" / "kept-off" / "north.list").read_text()


def test_a_host_is_gone_at_once_and_after_the_next_start(agent, here, tmp_path):
    assert [vm.name for vm in agent.link.hosts()[0].vms] == ["test"]
    threads = {thread.name for thread in threading.enumerate()}
    driver = weakref.ref(agent.agent.source("north").hypervisor)
    here.remove("north")
    assert (agent.link.hosts(), agent.hosts(), here.hosts(), kept(tmp_path)) == ([], (), (), [])
    assert (dict(agent.copies), agent.link.report().copies, agent.link.report().replicas) == ({}, (), ())
    assert all_hosts((), tmp_path / "state") == ()
    # The agent itself works on, and nothing holds on to the host's connections.
    until(lambda: {thread.name for thread in threading.enumerate()} == threads)
    gc.collect()
    assert driver() is None
    with pytest.raises(NotFound, match="no such host"):
        agent.agent.source("north")
    with pytest.raises(NotFound, match="no such host"):
        here.remove("north")
    # And its libvirt can be a host again, under another name.
    assert here.why_not() == ""
    here.integrate(Wanted("south", "source"))
    assert [(host.name, [vm.name for vm in host.vms]) for host in agent.link.hosts()] == [("south", ["test"])]


class Frozen(MemoryHypervisor):
    """Its connection cannot be closed: whoever lets go of it last waits for ever, or as good as that."""

    closing, going = threading.Event(), threading.Event()

    def __del__(self):
        self.closing.set()
        self.going.wait(20)


@pytest.mark.timeout(60)
def test_a_host_whose_libvirt_hangs_keeps_nobody_waiting(agent):
    agent.agent.add(Source(HostConfig("north", "source", "memory"), Frozen("north")))
    assert len(agent.link.hosts()) == 1
    began = time.monotonic()
    agent.remove("north", lambda: None)
    assert agent.link.hosts() == []
    assert agent.link.report().protections == ()
    assert time.monotonic() - began < 5
    assert Frozen.closing.wait(5)
    assert not Frozen.going.is_set()
    Frozen.going.set()


def test_a_host_of_the_configuration_stays(tmp_path):
    hosts = (HostConfig("office", "source", TEST),)
    keep_added(tmp_path / "state", hosts)  # also when the same one was added by clicks before
    agent = fresh(tmp_path, hosts)
    here = LibvirtHere(agent, tmp_path / "state", configured=["office"], file="/etc/leeward/leeward.toml", uri=TEST)
    assert here.stands_in("office") == "/etc/leeward/leeward.toml"
    with pytest.raises(Refused, match=r"it stands in /etc/leeward/leeward\.toml") as told:
        here.remove("office")
    assert "[[host]]" in told.value.hint
    assert (len(agent.hosts()), kept(tmp_path)) == (1, ["office"])
    with pytest.raises(NotFound):
        here.stands_in("moon")


def apply(agent, **wished):
    agent.agent.apply(DesiredState(generation=agent.agent.report().generation + 1, **wished))


def wished(agent, tmp_path):
    wish = ProtectionMessage(vm_id=VM, vm_name="test", host="north")
    apply(agent, protections=(wish,))
    yield "VMs are replicated from it: test"
    apply(agent)


def standing_down(agent, tmp_path):
    agent.agent._ledger.stand_down(StandDown(VM, "test", "north", "it runs at office"))
    yield "VMs are kept off there: test"
    agent.agent.stand_up(VM, "north")


def held_still(agent, tmp_path):
    agent.agent.hold(VM, "north")
    yield f"VMs are kept off there: {VM}"
    agent.agent.stand_up(VM, "north")


def copied(agent, tmp_path):
    folder = tmp_path / "state" / "copy" / "north"
    record = CopyRecord(VM, "web", "test", "7", "tag", "web-test", "north", copy_id=VM, hydrated=True)
    place = CopyRecords(folder)
    place.save(record)
    yield "VMs that were made out of recovery points are there: web"
    (place.place(VM, "test") / "record.json").unlink()


def replica_wished(agent, tmp_path):
    apply(agent, replicas=(ReplicaMessage(vm_id=VM, vm_name="web", host="north"),))
    yield "warm replicas are there, or are just being removed: web"
    apply(agent)


def replica_left(agent, tmp_path):
    """Its record lies there, and there is no key with which the agent could have removed it."""
    place = tmp_path / "state" / "replica" / "north" / "x"
    save_json(place / "replica.json", {"vm_id": VM, "tag": "t"})
    yield f"warm replicas are there, or are just being removed: {VM}"
    (place / "replica.json").unlink()


def coming_home(agent, tmp_path):
    records = HomeRecords(tmp_path / "state" / "home" / "north")
    record = HomeRecord(VM, "web", "tag")
    records.save(record)
    yield f"VMs are on their way home to it: {VM}"
    records.forget(record)


def at_work(agent, tmp_path):
    going = threading.Event()
    agent.jobs._tasks[JobKind.START] = lambda context: going.wait(20) and {}
    agent.link.submit(Job(id="1", kind=JobKind.START, vm_id=VM, host="north"))
    yield f"its agent is at work on it for {VM}"
    going.set()
    while agent.jobs.at_work("north"):
        threading.Event().wait(0.01)


def left_standing(agent, tmp_path):
    """Nobody else would let it go on: whoever has stopped it has died, and the vault cannot be asked whose it is."""
    stop(agent)
    yield f"VMs stand still there, and have to go on first: {VM}"
    agent.agent.source("north").hypervisor.resume(VM)  # as its operator does it: we are not told


@pytest.mark.parametrize("off", [False, True])
def test_a_guest_left_standing_goes_on_when_its_protection_ends_and_it_is_not_kept_off(agent, here, off):
    wish = ProtectionMessage(vm_id=VM, vm_name="test", host="north")
    apply(agent, protections=(wish,))
    stop(agent)
    agent.agent._left.release()
    driver = agent.agent.source("north").hypervisor
    assert driver.vm(VM).power is Power.PAUSED  # the vault does not tell whose it is
    kept_off = StandDownMessage(vm_id=VM, vm_name="test", host="north", reason="it runs at office")
    apply(agent, standdowns=(kept_off,) if off else ())
    until(lambda: driver.vm(VM).power is (Power.OFF if off else Power.RUNNING))
    until(lambda: agent.agent._groups.left() == [])
    if not off:
        here.remove("north")


def stop(agent):
    """As a round does that cannot let it go on again."""
    standstill, driver = agent.agent._groups._standstill, agent.agent.source("north").hypervisor
    if driver.vm(VM).power is Power.OFF:  # the test driver's VM is all tests'
        driver.start(VM)
    standstill.begin("north", [VM])
    assert driver.pause(VM)
    standstill.abandon("north", VM)


WAYS = (
    wished,
    standing_down,
    held_still,
    copied,
    replica_wished,
    replica_left,
    coming_home,
    at_work,
    left_standing,
)


@pytest.mark.parametrize("way", WAYS)
def test_it_stays_while_anything_there_needs_its_agent(agent, here, tmp_path, way):
    story = way(agent, tmp_path)
    words = next(story)
    with pytest.raises(Refused) as told:
        here.remove("north")
    assert (told.value.message, told.value.subject) == (words, "north")
    assert (here.hosts(), kept(tmp_path), set(agent.copies)) == (("north",), ["north"], {"north"})
    next(story, None)
    here.remove("north")
    assert kept(tmp_path) == []


def test_a_vm_that_is_kept_off_and_not_there_any_more_holds_none_back(agent, here, tmp_path):
    gone = VM.replace("6", "7")
    agent.agent._ledger.stand_down(StandDown(gone, "web", "north", "it runs at office"))
    agent.agent.hold(gone, "north")
    with pytest.raises(Refused, match="VMs are kept off there: web"):
        here.remove("north")  # something is under way
    agent.agent._ledger.unhold(gone, "north")
    here.remove("north")
    assert kept(tmp_path) == []


@pytest.mark.parametrize(
    ("more", "stays"),
    [
        ({}, False),
        ({"copy_id": VM}, True),  # the VM is there
        ({"settled": False}, True),
        ({"hydrated": False}, True),
        ({"pin": "p"}, True),
        ({"purpose": "test"}, True),
    ],
)
def test_of_a_vm_that_came_for_good_and_is_no_more_the_record_holds_none_back(agent, here, tmp_path, more, stays):
    gone = VM.replace("6", "7")
    told = {"purpose": "failover", "copy_id": gone, "hydrated": True, "settled": True, **more}
    record = CopyRecord(gone, "web", told.pop("purpose"), "7", "tag", "web", "north", **told)
    CopyRecords(tmp_path / "state" / "copy" / "north").save(record)
    with pytest.raises(Refused, match="made out of recovery points are there: web") if stays else nullcontext():
        here.remove("north")
    assert kept(tmp_path) == (["north"] if stays else [])


def test_what_concerns_another_host_holds_none_back(agent, here):
    agent.agent._ledger.stand_down(StandDown(VM, "test", "elsewhere", "it runs at office"))
    here.remove("north")


def test_a_list_that_cannot_be_written_leaves_all_as_it_was(agent, here, tmp_path):
    blocked = tmp_path / "state" / "hosts.new"  # where the new list would be written first
    blocked.mkdir()
    with pytest.raises(LeewardError, match="list of added hosts cannot be written: Is a directory"):
        here.remove("north")
    assert (here.hosts(), kept(tmp_path)) == (("north",), ["north"])
    assert [host.error for host in agent.link.hosts()] == [""]
    assert set(agent.copies) == {"north"}
    blocked.rmdir()
    here.remove("north")


class Killed(BaseException):
    """Stands for the death of the process."""


@pytest.mark.parametrize(("before", "then"), [(True, ["north"]), (False, [])])
def test_whoever_dies_in_between_finds_it_as_it_was_or_as_he_asked(agent, here, tmp_path, monkeypatch, before, then):
    def dies(state, hosts):
        if not before:
            keep_added(state, hosts)
        raise Killed

    monkeypatch.setattr("leeward.agent.here.keep_added", dies)
    with pytest.raises(Killed):
        here.remove("north")
    assert here.hosts() == ("north",)  # nobody has let go of it before it was written down
    again = fresh(tmp_path, all_hosts((), tmp_path / "state"))
    assert [host.name for host in again.hosts()] == then


@pytest.fixture
def quick_turns():
    """Threads that are busy all the time let each other go on sooner, and so meet at more places of what they do."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(usual / 20)
    yield
    sys.setswitchinterval(usual)


def test_whoever_looks_meanwhile_stumbles_over_nothing(agent, here, tmp_path, monkeypatch, quick_turns):
    stumbled = []
    for module in ("follower", "guard", "wiring"):
        monkeypatch.setattr(f"leeward.agent.{module}.log.exception", lambda *told, **_: stumbled.append(told))
    monkeypatch.setattr(wiring, "_SUPERVISE_S", 0.001)
    apply(agent)  # it knows that nothing is wished, so that it looks for replicas to remove
    over = threading.Event()

    def look(ask):
        while not over.is_set():
            try:
                ask()
            except Exception as error:
                stumbled.append(error)

    asks = (agent.link.report, agent.link.hosts, agent.follower.look, agent.agent._guard.look)
    lookers = [threading.Thread(target=look, args=(ask,)) for ask in asks]
    for looker in lookers:
        looker.start()
    for _ in range(40):
        here.remove("north")
        assert agent.link.hosts() == []
        here.integrate(Wanted("north", "recovery", str(tmp_path / "images")))
        assert [host.name for host in agent.link.hosts()] == ["north"]
    over.set()
    for looker in lookers:
        looker.join(10)
    assert stumbled == []
