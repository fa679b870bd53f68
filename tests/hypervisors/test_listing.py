"""What a host tells of its VMs is not held up by one of them, and what is kept for one goes with it.

libvirt's test driver stands in: it lives in this process, and so can be kept from answering.
"""

import gc
import threading
import time
import weakref

import libvirt
import pytest

from leeward.domain.errors import HostBusy, VmGone
from leeward.hypervisors.libvirt.host import LibvirtHost
from leeward.hypervisors.libvirt.questions import PATIENCE_S, Questions

URI = "test:///default"
NAMES = ("fine", "hangs")
TIB = 1 << 40


def definition(name):
    number = NAMES.index(name)
    return (
        f"<domain type='test'><name>{name}</name><uuid>{ID[name]}</uuid><memory>1</memory><os><type>hvm</type></os>"
        f"<devices><disk type='file'><source file='/guest/{number}'/><target dev='vda'/></disk></devices></domain>"
    )


ID = {name: f"00000000-0000-4000-8000-0000000000f{number}" for number, name in enumerate(NAMES)}


@pytest.fixture
def driver():
    connection = libvirt.open(URI)
    for name in NAMES:
        connection.defineXML(definition(name)).create()
    yield connection
    for domain in connection.listAllDomains(0):
        if domain.name() in NAMES:
            if domain.isActive():
                domain.destroy()
            domain.undefine()
    connection.close()


@pytest.fixture
def hang(monkeypatch):
    """A QEMU that answers nothing from when it is set, until it is let go."""
    event, released, asked = threading.Event(), threading.Event(), []
    told = libvirt.virDomain.blockInfo

    def answer(domain, *arguments):
        asked.append(domain.name())
        if event.is_set() and domain.name() == "hangs":
            released.wait(60)
        return told(domain, *arguments)

    monkeypatch.setattr(libvirt.virDomain, "blockInfo", answer)
    event.released, event.asked = released, asked
    yield event
    released.set()


def listed(host):
    return {vm.name: vm for vm in host.vms() if vm.name in NAMES}


def test_a_vm_that_hangs_is_listed_as_it_was_last_seen_and_holds_up_nobody(tmp_path, driver, hang):
    host = LibvirtHost("office", URI, tmp_path)
    before = listed(host)
    assert before["hangs"].disks[0].size > TIB // 2
    hang.set()
    began = time.monotonic()
    assert listed(host) == before
    first = time.monotonic() - began
    assert PATIENCE_S <= first < PATIENCE_S + 5
    hang.asked.clear()
    for _ in range(3):
        assert listed(host) == before
    assert host.vm(ID["hangs"]) == before["hangs"]
    assert time.monotonic() - began - first < PATIENCE_S  # it is not waited for again
    assert set(hang.asked) == {"fine", "test"}
    hang.released.set()
    ends = time.monotonic() + 10
    while "hangs" not in hang.asked:
        assert time.monotonic() < ends
        assert listed(host) == before
        time.sleep(0.05)


def test_a_vm_that_hangs_from_the_first_look_on_cannot_be_protected_yet(tmp_path, driver, hang):
    host = LibvirtHost("office", URI, tmp_path)
    hang.set()
    for _ in range(2):
        found = listed(host)
        assert "its disks cannot be read" in found["hangs"].unsupported
        assert found["hangs"].disks[0].size == 0
        assert found["fine"].unsupported == ""
    hang.released.set()
    ends = time.monotonic() + 10
    while listed(host)["hangs"].unsupported:
        assert time.monotonic() < ends
        time.sleep(0.05)


def test_what_a_question_raises_goes_to_who_asks(driver):
    questions = Questions("office", URI, patience_s=0.2)
    with pytest.raises(VmGone):
        questions.ask("00000000-0000-4000-8000-00000000dead", lambda domain: domain.name())
    with pytest.raises(HostBusy):
        questions.ask(ID["hangs"], lambda domain: time.sleep(1))
    assert questions.ask(ID["fine"], lambda domain: domain.name()) == "fine"
    with pytest.raises(HostBusy, match="does not answer"):
        questions.ask(ID["hangs"], lambda domain: domain.name())


def test_the_line_to_a_vm_is_closed_when_it_is_gone_and_nobody_uses_it(tmp_path, driver):
    host = LibvirtHost("office", URI, tmp_path)
    in_use = host._domain(ID["hangs"])
    line, other = (weakref.ref(host._line(ID[name]).get()) for name in ("hangs", "fine"))
    host.vms()
    assert line() is not None
    driver.lookupByUUIDString(ID["hangs"]).destroy()
    driver.lookupByUUIDString(ID["hangs"]).undefine()
    host.vms()
    gc.collect()
    assert line() is not None  # of a cycle, say
    assert line().isAlive()
    del in_use
    gc.collect()
    assert line() is None
    assert other().isAlive()
