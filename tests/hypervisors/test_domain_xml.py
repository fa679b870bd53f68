"""What is read out of a domain's XML, and what keeps it from being protected."""

import pytest

from leeward.hypervisors.libvirt.domain_xml import parse, unsupported

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
