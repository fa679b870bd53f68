"""What is read out of a domain's XML, and what keeps it from being protected."""

import pytest

from leeward.hypervisors.libvirt.domain_xml import parse, unsupported, untracked

QEMU_7, BEFORE_9, QEMU_9 = 7_002_000, 8_999_999, 9_000_000


def disk(driver="", target="<target dev='vda' bus='virtio'/>", more=""):
    return (
        f"<disk type='file' device='disk'><driver name='qemu' type='qcow2' {driver}/>"
        f"<source file='/a.qcow2'/>{target}{more}</disk>"
    )


def domain(devices):
    return parse(f"<domain><name>db</name><memory unit='MiB'>64</memory><devices>{devices}</devices></domain>")


SCSI = disk(target="<target dev='sda' bus='scsi'/>", more="<address type='drive' controller='1' unit='0'/>")
CONTROLLER = "<controller type='scsi' index='{index}' model='virtio-scsi'><driver queues='2' {threads}/></controller>"


@pytest.mark.parametrize(
    "devices",
    [
        disk("iothread='1'"),
        disk() + disk("iothread='2'", "<target dev='vdb' bus='virtio'/>"),
        disk().replace("type='qcow2' />", "type='qcow2'><iothreads><iothread id='1'/></iothreads></driver>"),
        SCSI + CONTROLLER.format(index=0, threads="") + CONTROLLER.format(index=1, threads="iothread='1'"),
        SCSI.replace("<address type='drive' controller='1' unit='0'/>", "")
        + CONTROLLER.format(index=0, threads="iothread='1'"),
    ],
    ids=["a disk", "the second disk", "several threads", "its controller", "the first controller"],
)
def test_disks_with_io_threads_need_a_qemu_that_survives_them(devices):
    found = domain(devices)
    assert found.io_threads
    assert "QEMU 7.2 can crash" in unsupported(found, QEMU_7)
    assert "QEMU 8.999 can crash" in unsupported(found, BEFORE_9)
    assert unsupported(found, QEMU_9) == ""


@pytest.mark.parametrize(
    ("added", "threads"),
    [
        (
            "<q:override><q:device alias='virtio-disk0'><q:frontend>"
            "<q:property name='iothread' type='string' value='t1'/></q:frontend></q:device></q:override>",
            True,
        ),
        ("<q:commandline><q:arg value='-global'/><q:arg value='virtio-blk-pci.iothread=t1'/></q:commandline>", True),
        ("<q:commandline><q:arg value='-s'/></q:commandline>", False),
    ],
)
def test_io_threads_may_be_given_past_libvirt(added, threads):
    space = "xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'"
    xml = f"<domain {space}><name>db</name><devices>{disk()}</devices>{added}</domain>"
    assert parse(xml).io_threads is threads


@pytest.mark.parametrize(
    "devices",
    [
        disk(),
        SCSI + CONTROLLER.format(index=0, threads="iothread='1'") + CONTROLLER.format(index=1, threads=""),
        disk() + CONTROLLER.format(index=0, threads="iothread='1'"),
        disk() + "<disk type='file' device='cdrom'><driver name='qemu' iothread='1'/><target dev='sdb'/></disk>",
    ],
    ids=["none", "another controller", "a controller without disks", "a drive"],
)
def test_io_threads_of_others_do_not_matter(devices):
    found = domain(devices)
    assert not found.io_threads
    assert unsupported(found, 0) == ""


def drive(bus, unit=0, more=""):
    place = f"<address type='drive' controller='0' bus='0' target='0' unit='{unit}'/>"
    return disk(target=f"<target dev='sd{'ab'[unit]}' bus='{bus}'/>", more=place + more)


def past_libvirt(devices, added):
    space = "xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'"
    return parse(f"<domain {space}><name>db</name><devices>{devices}</devices>{added}</domain>")


NO_TRIM = (
    "<qemu:override><qemu:device alias='sata0-0-0'><qemu:frontend><qemu:property name='discard_granularity'"
    " type='unsigned' value='0'/></qemu:frontend></qemu:device></qemu:override>"
)
NO_TRIM_AT_ALL = (
    "<qemu:commandline><qemu:arg value='-global'/><qemu:arg value='ide-hd.discard_granularity=0'/></qemu:commandline>"
)


@pytest.mark.parametrize(
    ("devices", "added", "named"),
    [
        (drive("sata"), "", "sda"),
        (disk() + drive("ide", 1), "", "sdb"),
        (drive("sata") + drive("sata", 1), NO_TRIM, "sdb"),
        (drive("sata"), NO_TRIM.replace("value='0'", "value='512'"), "sda"),
    ],
    ids=["SATA", "the second disk", "not turned off at the second", "not turned off"],
)
def test_disks_at_whose_trim_qemu_hangs_are_refused(devices, added, named):
    found = past_libvirt(devices, added)
    assert found.trims == named
    assert f"disk {named} is on an IDE or SATA controller" in unsupported(found, QEMU_9)


@pytest.mark.parametrize(
    ("devices", "added"),
    [
        (disk() + drive("scsi") + drive("usb", 1), ""),
        (disk() + drive("sata").replace("device='disk'", "device='cdrom'"), ""),
        (disk() + drive("sata", more="<readonly/>"), ""),
        (drive("sata"), NO_TRIM),
        (drive("ide") + drive("ide", 1), NO_TRIM_AT_ALL),
    ],
    ids=["other controllers", "a drive", "read-only", "turned off", "turned off for all"],
)
def test_other_disks_are_not(devices, added):
    assert unsupported(past_libvirt(devices, added), 0) == ""


def test_what_cannot_be_tracked():
    two = domain(disk() + disk(target="<target dev='vdb' bus='virtio'/>"))
    assert untracked(two, lambda disk: 3) == ""
    assert untracked(two, lambda disk: 0) == ""  # not known: a cycle finds out
    assert "vdb is an old qcow2" in untracked(two, lambda disk: 2 if disk.target == "vdb" else 3)
    assert "vda is raw" in untracked(domain(disk().replace("qcow2' ", "raw' ")), lambda disk: 0)


@pytest.mark.parametrize("form", ["raw", "qcow2"])
def test_what_the_host_encrypts_is_refused(form):
    """Running, a disk reads as plain data, and off as ciphertext."""
    secret = "<encryption format='luks'><secret type='passphrase' usage='vda'/></encryption>"
    beside = disk(more=secret).replace("type='qcow2'", f"type='{form}'")
    inside = disk().replace("<source file='/a.qcow2'/>", f"<source file='/a.qcow2'>{secret}</source>")
    for found in (beside, inside):
        assert "vda is encrypted by the host" in unsupported(domain(found), QEMU_9)


@pytest.mark.parametrize(
    ("more", "words"), [("<transient/>", "is transient"), ("<shareable/>", "is shared with other VMs")]
)
def test_what_has_no_lasting_content_of_its_own_is_refused(more, words):
    assert f"vda {words}" in unsupported(domain(disk(more=more)), QEMU_9)


def test_what_no_copy_will_have_is_known_from_the_definition():
    xml = "<domain><devices>{}</devices></domain>"
    assert parse(xml.format("<hostdev/><hostdev/><filesystem/><redirdev/>")).lacks == (
        "a host device passed through",
        "a shared folder",
    )
    assert parse(xml.format("<redirdev/>")).lacks == ()
