"""A world worth looking at: an office with VMs in many states, as a person would meet them."""

import time
import uuid

from tests.console.plan_world import DB, PlanWorld

from leeward.console.views import FailoverRequest, ProtectRequest
from leeward.domain.lifecycle import Event, Phase
from leeward.domain.vm import Power

MIB = 1 << 20
NAMES = ("accounting", "builds", "crm", "dc01", "fileserver", "mail", "printserver", "wiki")


def vm_id(name):
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, name))


class OfficeWorld(PlanWorld):
    def populate(self):
        super().populate()
        for number, name in enumerate(NAMES):
            data = bytes([number + 1]) * MIB + bytes(3 * MIB)
            power = Power.OFF if name == "printserver" else Power.RUNNING
            self.office.hypervisor.add(vm_id(name), name, {"vda": data, "vdb": bytes(MIB)}, power)

    def write_some(self, name, times=3):
        vm = self.office.hypervisor._vms[vm_id(name)]
        for _ in range(times):
            vm.write("vda", self.dice.randrange(16) * 65536, self.dice.randbytes(65536))

    def settle(self):
        """Eight protected and current, two of them of a group and with warm replicas, one paused, one away and
        committed, one away and not, a test copy of one."""
        for name in (*NAMES[:6], "wiki"):
            self.service.protect(name, ProtectRequest(rpo_s=1, app_interval_s=2 if name == "crm" else 0))
        self.protect_all()
        for name in ("accounting", "dc01"):
            self.service.protect(name, ProtectRequest(warm=True, group="office", group_s=5))
        self.wait(lambda: all(self.service.status(name)[0].failover_possible for name in (*NAMES[:6], "wiki")))
        self.service.set_paused("wiki", True)
        self.service.start_test("crm", "latest", "anna")
        self.wait(lambda: self.service.test("crm").done)
        for name in ("mail", "builds"):
            self.service.failover(name, Event.PLANNED, FailoverRequest(), "anna")
            self.until_phase(name, Phase.AWAY)
        self.service.commit("builds", "anna")
        self.until_phase("builds", Phase.SETTLED)
        self.create()
        for _ in range(3):
            self.write_some("crm")
            self.write_some("accounting", 8)
            time.sleep(1.1)

    def until_phase(self, name, phase):
        self.wait(lambda: self.service.status(name)[0].phase == phase)


__all__ = ["DB", "NAMES", "OfficeWorld", "vm_id"]
