"""One VM on each kind of hypervisor, with hands on it: as its guest, as its administrator, and as bad luck."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import threading
import time
import uuid
from dataclasses import replace
from pathlib import Path

import libvirt
import libvirt_qemu
from tests.anyone import anyones_folder

from leeward.domain.errors import Unavailable
from leeward.domain.vm import FirmwareState, Power
from leeward.hypervisors.libvirt.host import LibvirtHost
from leeward.hypervisors.memory import MemoryHypervisor

MIB = 1 << 20
# The second one ends in the middle of a block.
SIZES = {"vdb": 4 * MIB, "vdc": 2 * MIB + 512}
NOBODY = "00000000-0000-4000-8000-000000000000"


class Rig:
    """`expected` is what the disks hold to which only the rig writes; others the guest may write to at any time."""

    def __init__(self):
        self.expected = {}
        self.lock = threading.Lock()

    @property
    def power(self):
        return self.host.vm(self.vm_id).power

    def size(self, disk):
        return len(self.expected[disk])

    def write(self, disk, offset, length, byte):
        """A guest's write: `length` bytes of one value. Returns when it is done."""
        self._write(disk, offset, length, byte)
        self.expected[disk][offset : offset + length] = bytes([byte]) * length

    def discard(self, disk, offset, length):
        """TRIM. (While a backup job is on the VM QEMU ignores it: use `zero` then.)"""
        self._discard(disk, offset, length)
        self.expected[disk][offset : offset + length] = bytes(length)

    def zero(self, disk, offset, length):
        """A guest's WRITE ZEROES, which may unmap."""
        self._zero(disk, offset, length)
        self.expected[disk][offset : offset + length] = bytes(length)

    def grow(self, disk, size):
        self._grow(disk, size)
        self.expected[disk].extend(bytes(size - self.size(disk)))

    def run(self):
        """Have the guest up and its agent answering."""
        self.host.start(self.vm_id)
        self.wait_agent()

    def idle(self):
        """Whether no job is on it, or the last one is just ending: a host need not let go of it at once."""
        ends = time.monotonic() + 5
        while self.job() and time.monotonic() < ends:
            time.sleep(0.02)
        return not self.job()

    def power_on(self):
        """Have it powered on, with its CPU halted if it was off: all but the guest inside is as if it ran."""
        if self.power is Power.OFF:
            self._start_paused()


class MemoryRig(Rig):
    def __init__(self):
        super().__init__()
        self.vm_id = str(uuid.uuid4())
        self.host = MemoryHypervisor("office")
        self.expected = {disk: bytearray(size) for disk, size in SIZES.items()}
        self.vm = self.host.add(self.vm_id, "port", {"vda": b"\1" * MIB, **self.expected})
        self.vm.firmware = FirmwareState(b"variables", (("tpm", b"state"),))

    def restarted(self):
        return self.host  # nothing of ours is in it

    def _write(self, disk, offset, length, byte):
        self.vm.write(disk, offset, bytes([byte]) * length)

    def _zero(self, disk, offset, length):
        self.vm.write(disk, offset, bytes(length))

    _discard = _zero

    def _grow(self, disk, size):
        self.vm.resize(disk, size)

    @contextlib.contextmanager
    def extra_disk(self, *, tracked):
        self.vm.add_disk("vdd", bytes(MIB), tracked=tracked)
        self.expected["vdd"] = bytearray(MIB)
        yield "vdd"
        del self.expected["vdd"]
        self.vm.remove_disk("vdd")

    def points(self):
        return set(self.vm.points)

    def job(self):
        return self.vm.job is not None or self.vm.foreign_job

    @contextlib.contextmanager
    def foreign_job(self):
        self.vm.foreign_job = True
        yield
        assert self.vm.foreign_job
        self.vm.foreign_job = False

    def _start_paused(self):
        self.vm.set_power(Power.PAUSED)

    def firmware(self):
        return self.vm.firmware

    def change_firmware(self):
        self.vm.firmware = FirmwareState(b"others")

    def pause(self):
        self.vm.set_power(Power.PAUSED)

    def kill(self):
        self.vm.kill()

    def redefine(self, memory_mib):
        self.vm.facts = replace(self.vm.facts, memory_mib=memory_mib)

    @contextlib.contextmanager
    def without_agent(self):
        self.vm.has_agent = False
        yield
        self.vm.has_agent = True

    def frozen(self):
        return False  # it freezes for no time

    def wait_agent(self):
        pass


class LibvirtRig(Rig):
    """The lab's tiny guest. Its data disks are written to through QEMU's monitor, by the guest's own device."""

    def __init__(self, lab):
        super().__init__()
        self.lab = lab
        guest = lab.define_guest("office", "port", disks=(64,), start=False, ip="10.77.0.45", tpm=True)
        self.vm_id, self.ip = guest.uuid, guest.ip
        self.scratch = Path(lab.places.root) / "scratch-port"
        self.connection = libvirt.open(lab.libvirt("office"))
        self.domain = self.connection.lookupByUUIDString(self.vm_id)
        for disk, size in SIZES.items():
            self._attach(disk, size, "qcow2", libvirt.VIR_DOMAIN_AFFECT_CONFIG)
        self.host = self.restarted()

    def close(self):
        self.host.force_off(self.vm_id)
        self.host.forget(self.vm_id)
        self.connection.close()
        self.lab.destroy_guest("office", "port")
        for disk in self.expected:
            for image in Path(self.lab.places.images("office")).glob(f"port-{disk}.*"):
                image.unlink()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def restarted(self):
        """A driver as after the death of our process. The rig waits for the guest's agent by itself."""
        return LibvirtHost("office", self.lab.libvirt("office"), self.scratch, agent_grace_s=0)

    def image(self, disk, form="qcow2"):
        return Path(self.lab.places.images("office")) / f"port-{disk}.{form}"

    def _attach(self, disk, size, form, flags):
        image = self.image(disk, form)
        subprocess.run(["qemu-img", "create", "-q", "-f", form, str(image), str(size)], check=True)
        xml = f"<disk type='file' device='disk'><driver name='qemu' type='{form}' cache='none' discard='unmap'/>"
        xml += f"<source file='{image}'/><target dev='{disk}' bus='virtio'/></disk>"
        self.domain.attachDeviceFlags(xml, flags)
        self.expected[disk] = bytearray(size)
        return xml

    def _qemu_io(self, disk, command):
        if not self.domain.isActive():
            subprocess.run(["qemu-io", "-c", command, str(self.image(disk))], check=True, stdout=subprocess.DEVNULL)
            return
        device = f"/machine/peripheral/virtio-disk{ord(disk[2]) - ord('a')}/virtio-backend"
        hmp = libvirt_qemu.VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP
        answer = libvirt_qemu.qemuMonitorCommand(self.domain, f'qemu-io -d {device} "{command}"', hmp)
        assert not answer, answer

    def _write(self, disk, offset, length, byte):
        self._qemu_io(disk, f"write -P {byte} {offset} {length}")

    def _discard(self, disk, offset, length):
        self._qemu_io(disk, f"discard {offset} {length}")

    def _zero(self, disk, offset, length):
        self._qemu_io(disk, f"write -z -u {offset} {length}")

    def _grow(self, disk, size):
        assert self.idle()  # libvirt lets go of the last job first
        self.domain.blockResize(disk, size, libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES)

    @contextlib.contextmanager
    def extra_disk(self, *, tracked):
        form = "qcow2" if tracked else "raw"
        xml = self._attach("vdd", MIB, form, libvirt.VIR_DOMAIN_AFFECT_LIVE)
        try:
            yield "vdd"
        finally:
            self._until(lambda: self._detached(xml))  # libvirt lets go of the last job, then the guest of the disk
            del self.expected["vdd"]
            self.image("vdd", form).unlink()

    def _detached(self, xml):
        with contextlib.suppress(libvirt.libvirtError):
            self.domain.detachDevice(xml)
        return "vdd" not in self.domain.XMLDesc(0)

    def _until(self, condition, seconds=30):
        ends = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < ends
            time.sleep(0.02)

    def points(self):
        names = [checkpoint.getName() for checkpoint in self.domain.listAllCheckpoints(0)]
        return {name.removeprefix("lw-") for name in names}

    def job(self):
        return self.domain.isActive() and self.domain.jobInfo()[0] != libvirt.VIR_DOMAIN_JOB_NONE

    @contextlib.contextmanager
    def foreign_job(self):
        prefix = anyones_folder(self.lab) / "foreign"
        disks = "".join(
            f"<disk name='{disk}' backup='yes' type='file'><scratch file='{prefix}.{disk}'/></disk>"
            if disk == "vdb"
            else f"<disk name='{disk}' backup='no'/>"
            for disk in ("vda", *self.expected)
        )
        server = f"<server transport='unix' socket='{prefix}.sock'/>"
        xml = f"<domainbackup mode='pull'>{server}<disks>{disks}</disks></domainbackup>"
        self.domain.backupBegin(xml, None, 0)
        try:
            yield
            assert self.job()
        finally:
            self.domain.abortJob()
            self._until(lambda: not self.job())

    def _start_paused(self):
        self.domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)

    def firmware(self):
        folder = self._tpm()
        files = sorted(path for path in folder.iterdir() if path.name != ".lock") if folder.exists() else []
        return FirmwareState(tpm=tuple((path.name, path.read_bytes()) for path in files))

    def _tpm(self):
        return self.lab.places.daemon_state("office") / "swtpm" / self.vm_id / "tpm2"

    def change_firmware(self):
        (self._tpm() / "tpm2-00.savestate").write_bytes(b"as after a suspend")

    def pause(self):
        self.domain.suspend()

    def kill(self):
        for disk in self.expected:
            self._qemu_io(disk, "flush")  # what was not flushed may be lost, as in a power cut
        time.sleep(0.3)  # else libvirt may not have its monitor yet, and never hear of the death
        os.kill(self._qemu_pid(), signal.SIGKILL)
        self._until(lambda: not self.domain.isActive())

    def _qemu_pid(self):
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    words = (entry / "cmdline").read_bytes().split(b"\0")
                    if b"qemu-system" in words[0] and self.vm_id.encode() in words:
                        return int(entry.name)
        raise AssertionError("no QEMU")

    def redefine(self, memory_mib):
        xml = self.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        old = xml[xml.index("<memory") : xml.index("</currentMemory>")]
        new = f"<memory unit='MiB'>{memory_mib}</memory><currentMemory unit='MiB'>{memory_mib}"
        self.connection.defineXML(xml.replace(old, new))

    @contextlib.contextmanager
    def without_agent(self):
        """The guest's agent ends, and is started again when somebody connects to a port of the guest."""
        agent = "qemu-ga -m virtio-serial -p /dev/virtio-ports/org.qemu.guest_agent.0 -t /run"
        script = f"sleep 0.2; kill $PPID; nc -l -p 81 </dev/null; exec {agent} >/dev/null 2>&1"
        self._agent("guest-exec", path="/bin/sh", arg=["-c", script])
        self._until(lambda: "state='disconnected'" in self.domain.XMLDesc(0))
        try:
            yield
        finally:
            with contextlib.suppress(Unavailable):
                self.lab.client("office").http(self.ip, port=81)
            self.wait_agent()

    def _agent(self, command, **arguments):
        order = json.dumps({"execute": command, "arguments": arguments})
        return json.loads(libvirt_qemu.qemuAgentCommand(self.domain, order, 10, 0))["return"]

    def frozen(self):
        return self._agent("guest-fsfreeze-status") == "frozen"

    def wait_agent(self):
        self._until(lambda: "state='connected'" in self.domain.XMLDesc(0), 60)
