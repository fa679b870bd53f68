"""Pages of many VMs."""

import pytest

from leeward.console.fleet import FleetView
from leeward.console.listing import ALL, Listing, Order, Page
from leeward.domain.errors import BadInput
from leeward.domain.protection import ReplicaState
from leeward.domain.vm import Power
from leeward.wire.messages import (
    AgentReport,
    CopyReport,
    HostReport,
    PolicyMessage,
    ProtectionMessage,
    ReplicaReport,
    VmMessage,
)


class Link:
    name = "link"
    present = True
    age_s = 0.0

    def __init__(self, hosts, copies=(), replicas=()):
        self._hosts, self._copies, self._replicas = hosts, copies, replicas
        self.asked = 0

    def hosts(self):
        return self._hosts

    def report(self):
        self.asked += 1
        return AgentReport(
            agent="a", generation=1, time="", protections=(), copies=self._copies, replicas=self._replicas
        )


def vm(vm_id, name, host):
    return VmMessage(
        id=vm_id, name=name, host=host, power=Power.RUNNING, disks=(), memory_mib=1, vcpus=1, unsupported=""
    )


def host(name, *vms):
    return HostReport(name=name, site="source", uri="x", error="", vms=vms)


def wish(vm_id, name, where):
    return ProtectionMessage(vm_id=vm_id, vm_name=name, host=where, policy=PolicyMessage())


def copy(vm_id, copy_id):
    return CopyReport(
        vm_id=vm_id, vm_name="x", purpose="test", point="1", copy_name="t", copy_id=copy_id, host="h2", network="n",
        steps=(), evidence={}, hydrated=False, failed="",
    )  # fmt: skip


@pytest.fixture
def view():
    one = Link([host("h1", vm("1", "web", "h1"), vm("2", "db", "h1"), vm("3", "Mail", "h1"))])
    two = Link([host("h2", vm("1", "web", "h2"), vm("9", "web-test", "h2"))], (copy("1", "9"),))
    return FleetView([one, two])


def listed(view, *wishes):
    return Listing({one.vm_id: one for one in wishes}, view.vms, view.copies)


def test_a_vm_of_both_sites_is_one_row_and_a_test_copy_none(view):
    listing = listed(view, wish("1", "old", "h1"), wish("7", "gone", "h1"))
    assert {row.vm_id: (row.name, row.host, row.wish is not None) for row in listing.rows.values()} == {
        "1": ("web", "h1", True),
        "7": ("gone", "h1", True),
        "2": ("db", "h1", False),
        "3": ("Mail", "h1", False),
    }
    assert listing.rows["7"].vm is None
    moved = listed(view, wish("1", "old", "h2"))
    assert moved.rows["1"].vm.host == "h2"


def test_pages_cover_all_rows_once_in_order(view):
    listing = listed(view, wish("1", "web", "h1"))
    assert [row.name for row in listing.page(ALL)[0]] == ["Mail", "db", "web"]
    pages = [listing.page(Page(offset=offset, limit=2)) for offset in (0, 2, 4)]
    assert [[row.name for row in found] for found, _ in pages] == [["Mail", "db"], ["web"], []]
    assert {count for _, count in pages} == {3}


def test_a_search_looks_at_names_and_hosts_in_any_case(view):
    listing = listed(view)
    assert [found.name for found in listing.vms(Page("MAIL"))[0]] == ["Mail"]
    found, count = listing.vms(Page("h2", Order.HOST, limit=1))
    assert ([vm.name for vm in found], count) == (["web"], 2)
    assert [vm.host for vm in listing.vms(ALL)[0] if vm.name == "web"] == ["h1", "h2"]
    assert [vm.name for vm in listing.vms(Page("", Order.HOST))[0]] == ["Mail", "db", "web", "web", "web-test"]


def test_a_vm_is_known_by_what_it_is_called_on_its_host(view):
    listing = listed(view, wish("1", "old", "h1"), wish("7", "gone", "h1"), wish("8", "db", "h3"))
    assert listing.ids["web"] == ["1"]
    assert "old" not in listing.ids
    assert listing.ids["gone"] == ["7"]
    assert sorted(listing.ids["db"]) == ["2", "8"]
    assert listing.names["9"] == "web-test"


def test_a_page_of_nothing_is_refused():
    for wrong in ({"offset": -1}, {"limit": 0}):
        with pytest.raises(BadInput):
            Page(**wrong)


def test_an_agent_is_asked_once_for_the_replicas_of_all_vms():
    kept = [
        ReplicaReport(vm_id=vm_id, host=host, state=ReplicaState.WARM, point=point)
        for vm_id, host, point in (("1", "far", "7"), ("2", "far", "8"), ("1", "near", "9"))
    ]
    link = Link([host("far"), host("near")], replicas=tuple(kept))
    view = FleetView([link])
    found = [view.replica(vm_id, where) for vm_id, where in (("1", "far"), ("2", "far"), ("1", "near"))]
    assert [replica.point for replica in found] == ["7", "8", "9"]
    assert view.replica("2", "near") is view.replica("1", "nowhere") is view.replica("1", "") is None
    assert link.asked == 1
