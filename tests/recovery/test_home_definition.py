"""At home only the disks change; a new host gets the VM as it was before it left."""

from xml.etree import ElementTree as ET

import pytest
from tests.recovery.test_definition import ELSEWHERE, OVERLAYS, SOURCE, fail_over

from leeward.domain.errors import Refused
from leeward.hypervisors.libvirt import domain_xml
from leeward.recovery.libvirt.definition import original_of, tag_of
from leeward.recovery.libvirt.firmware import NOTHING_PLACED
from leeward.recovery.libvirt.home_definition import for_new_host, with_images

NEW = {"vda": "/images/new.qcow2"}


def parts(xml, *without):
    """All that a definition says, as text, but for some elements."""
    root = ET.fromstring(xml)
    for path in without:
        parent, _, name = path.rpartition("/")
        for holder in root.findall(parent) if parent else [root]:
            for element in holder.findall(name):
                holder.remove(element)
    return ET.canonicalize(ET.tostring(root, encoding="unicode"), strip_text=True)


def test_only_the_disks_change():
    switched = with_images(SOURCE, NEW, "t1")
    assert parts(switched, "devices/disk", "genid") == parts(SOURCE, "devices/disk", "genid")
    disks = {disk.target: disk for disk in domain_xml.parse(switched).disks}
    assert (disks["vda"].path, disks["vda"].format, disks["vda"].kind) == ("/images/new.qcow2", "qcow2", "file")
    assert disks["vdz"].path == "/iso/scratch.raw"
    disk = next(
        disk for disk in ET.fromstring(switched).findall("devices/disk") if "new" in ET.tostring(disk).decode()
    )
    assert disk.find("backingStore") is None
    options = {"io": "native", "cache": "writeback", "iothread": "7"}
    assert disk.find("driver").attrib == {"name": "qemu", "type": "qcow2"} | options
    assert disk.find("boot").get("order") == "1"
    # Windows must see that it was set back.
    assert ET.fromstring(switched).findtext("genid") != ET.fromstring(SOURCE).findtext("genid")
    assert with_images(switched, NEW, "t1") == switched


def test_a_disk_keeps_its_io_threads_at_home():
    several = SOURCE.replace(
        " iothread='7'/>", "><iothreads><iothread id='7'/><iothread id='8'/></iothreads></driver>"
    )
    root = ET.fromstring(with_images(several, NEW, "t1"))
    threads = root.findall("devices/disk/driver/iothreads/iothread")
    assert [thread.get("id") for thread in threads] == ["7", "8"]


def test_a_disk_that_home_does_not_know_is_refused():
    with pytest.raises(Refused, match="no disk vdb, vdc"):
        with_images(SOURCE, NEW | {"vdc": "/c", "vdb": "/b"}, "t1")


def test_a_new_host_gets_the_vm_as_it_was_before_it_left():
    moved, _ = fail_over(ELSEWHERE)
    xml, warnings = for_new_host(moved.xml, NEW, "t1", NOTHING_PLACED, kvm=True)
    root = ET.fromstring(xml)
    assert tag_of(xml) is None
    assert original_of(xml) is None
    assert (root.findtext("uuid"), root.findtext("name")) == (moved.vm_id, "db")
    cards = root.findall("devices/interface")
    assert [card.find("source").attrib for card in cards] == [{"bridge": "br0"}, {"dev": "eth0", "mode": "bridge"}]
    assert all(card.find("link") is None for card in cards)
    assert "vnet3" not in xml
    assert [disk.path for disk in domain_xml.parse(xml).disks] == ["/images/new.qcow2"]
    assert any("host device" in warning for warning in warnings)
    # One that was never anywhere else is taken as it is.
    assert for_new_host(SOURCE, NEW, "t1", NOTHING_PLACED, kvm=True)[0] == xml
    assert OVERLAYS.keys() == NEW.keys()
