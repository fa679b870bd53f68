"""The version that counts is that of the process that runs the VM."""

import json

import libvirt
import pytest

from leeward.hypervisors.libvirt import emulator
from leeward.hypervisors.libvirt.emulator import Emulators


class Domain:
    """A VM whose host has QEMU 9 by now. run: -1 while it is off."""

    def __init__(self, run):
        self.run, self.asked = run, 0
        self.runs_on = {"major": 7, "minor": 2, "micro": 18}

    def name(self):
        return "db"

    def UUIDString(self):  # noqa: N802 libvirt's name
        return "vm"

    def ID(self):  # noqa: N802 libvirt's name
        return self.run

    def isActive(self):  # noqa: N802 libvirt's name
        return self.run != -1

    def connect(self):
        return self

    def getVersion(self):  # noqa: N802 libvirt's name
        return 9_001_002


@pytest.fixture
def monitor(monkeypatch):
    def command(domain, text, flags):
        assert json.loads(text) == {"execute": "query-version"}
        domain.asked += 1
        if domain.runs_on is None:
            libvirt.virResetLastError()
            raise libvirt.libvirtError("no")
        return json.dumps({"return": {"qemu": domain.runs_on, "package": "Debian"}, "id": "libvirt-1"})

    monkeypatch.setattr(emulator.libvirt_qemu, "qemuMonitorCommand", command)


def test_a_running_vm_is_asked_once_a_run(monitor):
    emulators, domain = Emulators(), Domain(3)
    assert [emulators.version(domain) for _ in range(3)] == [7_002_018] * 3
    assert domain.asked == 1
    domain.run, domain.runs_on = 4, {"major": 9, "minor": 0, "micro": 1}
    assert emulators.version(domain) == 9_000_001
    assert domain.asked == 2


def test_one_that_is_off_will_run_on_what_the_host_has(monitor):
    domain = Domain(-1)
    assert Emulators().version(domain) == 9_001_002
    assert domain.asked == 0


def test_one_that_does_not_tell_is_not_taken_for_a_new_one(monitor):
    domain = Domain(3)
    emulators, told, domain.runs_on = Emulators(), domain.runs_on, None
    assert emulators.version(domain) == 0
    domain.runs_on = told
    assert emulators.version(domain) == 7_002_018
