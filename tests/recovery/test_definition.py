"""A copy has nothing that could touch the original: identity, addresses, disks, networks, host paths."""

from xml.etree import ElementTree as ET

from leeward.recovery.libvirt.definition import Overlay, failover_copy, original_of, tag_of, test_copy
from leeward.recovery.libvirt.nics import Plug

make_copy = test_copy
del test_copy  # pytest must not take it for a test

SOURCE = """<domain type='kvm' id='3'><name>db</name><uuid>0d9c8f3c-5d0f-4a53-9d0e-5a1f6f2f3b11</uuid>
<genid>43dc0cf8-809b-4adb-9bea-a9abb5f3d90e</genid>
<iothreads>2</iothreads><iothreadids><iothread id='7'/><iothread id='8'/></iothreadids>
<memory unit='KiB'>4194304</memory><vcpu placement='static'>4</vcpu><cputune><vcpupin vcpu='0' cpuset='8'/></cputune>
<memoryBacking><hugepages/></memoryBacking><cpu mode='host-passthrough'/>
<os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type>
<loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE.fd</loader>
<nvram>/var/lib/libvirt/qemu/nvram/db.fd</nvram></os>
<seclabel type='dynamic' model='apparmor'/>
<devices><emulator>/opt/qemu/bin/qemu</emulator>
<disk type='block' device='disk'><driver name='qemu' type='qcow2' io='native' cache='writeback' iothread='7'/>
<source dev='/dev/vg/db'/>
<backingStore type='file'><format type='qcow2'/><source file='/base.qcow2'/></backingStore>
<target dev='vda' bus='virtio'/><boot order='1'/><address type='pci' slot='0x04'/></disk>
<disk type='file' device='disk'><source file='/iso/scratch.raw'/><target dev='vdz'/></disk>
<disk type='file' device='cdrom'><source file='/iso/debian.iso'/><target dev='sda' bus='sata'/><readonly/></disk>
<controller type='scsi' index='0' model='virtio-scsi'><driver queues='4' iothread='8'/></controller>
<interface type='bridge'><mac address='52:54:00:aa:bb:cc'/><source bridge='br0'/><target dev='vnet3'/>
<filterref filter='clean-traffic'/><model type='virtio'/></interface>
<interface type='direct'><mac address='52:54:00:aa:bb:cd'/><source dev='eth0' mode='bridge'/>
<model type='e1000'/></interface>
<serial type='file'><source path='/var/log/db.console'/><target port='0'/></serial>
<channel type='unix'><source mode='bind' path='/var/lib/libvirt/qemu/channel/x'/>
<target type='virtio' name='org.qemu.guest_agent.0'/></channel>
<channel type='spicevmc'><target type='virtio' name='com.redhat.spice.0'/></channel>
<graphics type='spice' port='5901' passwd='secret'/><video><model type='qxl' ram='65536'/></video>
<hostdev mode='subsystem' type='pci'><source><address bus='0x06'/></source></hostdev>
<filesystem type='mount'><source dir='/srv'/><target dir='srv'/></filesystem></devices></domain>"""

OVERLAYS = {"vda": Overlay("/images/t1.vda.qcow2", "/run/x/nbd.sock", "vda")}


def make(kvm=True, tag="t1"):
    made = make_copy(SOURCE, tag=tag, name="db-test", overlays=OVERLAYS, network="leeward-t1", kvm=kvm)
    return made, ET.fromstring(made.xml)


def test_identity_is_its_own_and_stable_for_a_tag():
    made, root = make()
    assert root.findtext("name") == "db-test"
    assert root.findtext("uuid") == made.vm_id != "0d9c8f3c-5d0f-4a53-9d0e-5a1f6f2f3b11"
    assert root.find("genid") is None
    assert root.get("id") is None
    assert make()[0] == made
    assert make(tag="t2")[0].vm_id != made.vm_id
    assert tag_of(made.xml) == "t1"
    assert tag_of(SOURCE) is None


def test_no_trace_of_the_original_host_is_left():
    made, _ = make()
    for trace in (
        "/dev/vg",
        "/base.qcow2",
        "/iso/",
        "br0",
        "eth0",
        "vnet3",
        "52:54:00:aa",
        "clean-traffic",
        "/opt/qemu",
    ):
        assert trace not in made.xml, trace
    for trace in ("/var/log", "hostdev", "filesystem", "spice", "5901", "secret", "hugepages", "apparmor", "db.fd"):
        assert trace not in made.xml, trace


def test_disks_are_overlays_that_stop_the_guest_on_errors():
    _, root = make()
    disks = {disk.find("target").get("dev"): disk for disk in root.findall("devices/disk")}
    assert set(disks) == {"vda", "sda"}
    assert disks["vda"].find("source").get("file") == "/images/t1.vda.qcow2"
    assert disks["vda"].find("driver").get("rerror_policy") == "stop"
    assert disks["vda"].find("driver").get("error_policy") == "stop"
    backing = disks["vda"].find("backingStore/source")
    assert (backing.get("protocol"), backing.get("name")) == ("nbd", "vda")
    assert disks["vda"].find("boot").get("order") == "1"
    assert disks["sda"].find("source") is None


def test_no_io_thread_is_left_that_keeps_it_from_being_replicated_back():
    made, root = make()
    assert "iothread" not in made.xml
    assert root.find("devices/controller[@type='scsi']/driver").get("queues") == "4"


def test_every_card_is_on_the_isolated_network_with_an_address_of_its_own():
    _, root = make()
    cards = root.findall("devices/interface")
    assert [card.get("type") for card in cards] == ["network", "network"]
    assert {card.find("source").get("network") for card in cards} == {"leeward-t1"}
    addresses = [card.find("mac").get("address") for card in cards]
    assert len(set(addresses)) == 2
    assert [card.find("model").get("type") for card in cards] == ["virtio", "e1000"]


def test_without_kvm_it_is_emulated_and_says_so():
    made, root = make(kvm=False)
    assert root.get("type") == "qemu"
    assert root.find("cpu") is None
    assert any("no KVM" in warning for warning in made.warnings)
    assert make(kvm=True)[1].get("type") == "kvm"


def test_warnings_name_what_is_missing():
    text = " / ".join(make()[0].warnings)
    for word in ("host device", "shared folder", "drive sda", "disk vdz", "UEFI"):
        assert word in text


def fail_over(plugs, present=(), definition=SOURCE, tag="f1", overlays=OVERLAYS):
    made = failover_copy(
        definition,
        tag=tag,
        overlays=overlays,
        plugs=plugs,
        isolated="leeward-f1",
        has=set(present).__contains__,
        kvm=True,
    )
    return made, ET.fromstring(made.xml)


ELSEWHERE = [Plug("network:dr"), Plug("isolated")]


def test_a_failover_copy_is_the_vm_itself():
    made, root = fail_over(ELSEWHERE)
    assert (made.vm_id, made.name) == ("0d9c8f3c-5d0f-4a53-9d0e-5a1f6f2f3b11", "db")
    assert (root.findtext("uuid"), root.findtext("name")) == (made.vm_id, made.name)
    cards = root.findall("devices/interface")
    assert [card.find("mac").get("address") for card in cards] == ["52:54:00:aa:bb:cc", "52:54:00:aa:bb:cd"]
    assert tag_of(made.xml) == "f1"
    # Windows must see that it was set back, and see the same when a step was repeated.
    assert root.findtext("genid") == fail_over(ELSEWHERE)[1].findtext("genid")
    assert root.findtext("genid") not in (ET.fromstring(SOURCE).findtext("genid"), "")
    assert fail_over(ELSEWHERE, tag="f2")[1].findtext("genid") != root.findtext("genid")


def test_what_belongs_to_the_old_host_is_not_in_a_failover_copy_either():
    made, root = fail_over(ELSEWHERE)
    root.remove(root.find("metadata"))
    left = ET.tostring(root, encoding="unicode")
    for trace in ("/dev/vg", "/base.qcow2", "/iso/", "br0", "eth0", "vnet3", "clean-traffic", "/opt/qemu", "hostdev"):
        assert trace not in left, trace
    assert any("filterref" in warning for warning in made.warnings)


def test_cards_go_where_they_were_planned_to():
    _, root = fail_over(ELSEWHERE)
    cards = root.findall("devices/interface")
    assert [card.get("type") for card in cards] == ["network", "network"]
    assert [card.find("source").attrib for card in cards] == [{"network": "dr"}, {"network": "leeward-f1"}]
    _, root = fail_over([Plug("bridge:br0", kept=True), Plug("bridge:br7")], present=["filter:clean-traffic"])
    cards = root.findall("devices/interface")
    assert [card.find("source").attrib for card in cards] == [{"bridge": "br0"}, {"bridge": "br7"}]
    assert cards[0].find("filterref") is not None
    assert cards[0].find("target") is None
    made, root = fail_over([Plug("bridge:br0", kept=True), Plug("bridge:br7")])
    assert root.find("devices/interface/filterref") is None
    assert any("not filtered" in warning for warning in made.warnings)


def test_the_original_goes_along_without_its_passwords_through_any_number_of_moves():
    made, _ = fail_over(ELSEWHERE)
    original = original_of(made.xml)
    assert original_of(SOURCE) is None
    assert ET.fromstring(original).find("devices/hostdev") is not None
    assert "secret" not in original
    again, _ = fail_over(ELSEWHERE, definition=made.xml, tag="f2")
    assert original_of(again.xml) == original
    assert tag_of(again.xml) == "f2"


def test_a_whole_image_has_nothing_under_it():
    _, root = fail_over(ELSEWHERE, overlays={"vda": Overlay("/images/whole.qcow2")})
    disk = root.find("devices/disk")
    assert disk.find("source").get("file") == "/images/whole.qcow2"
    assert disk.find("backingStore") is None
