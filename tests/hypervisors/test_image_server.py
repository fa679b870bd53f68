"""A qemu-nbd of ours ends with us, however we end."""

import signal
import subprocess
import sys
import time

import pytest

from leeward.domain.errors import HypervisorError, TrackingLost
from leeward.hypervisors.libvirt.domain_xml import DiskXml
from leeward.hypervisors.libvirt.offline import ImageServer
from leeward.hypervisors.nbd import Nbd

SERVE = """
import sys, time
from pathlib import Path
from leeward.hypervisors.libvirt.domain_xml import DiskXml
from leeward.hypervisors.libvirt.offline import ImageServer
server = ImageServer(DiskXml("vda", "file", "qcow2", sys.argv[1]), Path(sys.argv[2]), None)
print(server._process.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "a,b.qcow2"  # a comma has a meaning in QEMU's options
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(path), "1M"], check=True)
    subprocess.run(["qemu-io", "-c", "write -P 7 0 64k", str(path)], check=True, stdout=subprocess.DEVNULL)
    return DiskXml("vda", "file", "qcow2", str(path))


def test_clients_come_and_go_and_closing_ends_it(image, tmp_path):
    server = ImageServer(image, tmp_path / "s", None)
    for _ in range(3):
        with Nbd(server.socket, "vda") as client:
            assert client.pread(512, 0) == bytes([7]) * 512
    server.close()
    assert server._process.returncode is not None
    assert not server.socket.exists()


def test_a_server_whose_owner_is_killed_ends(image, tmp_path):
    owner = subprocess.Popen(
        [sys.executable, "-c", SERVE, image.path, str(tmp_path / "s")], stdout=subprocess.PIPE, text=True
    )
    pid = int(owner.stdout.readline())
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    owner.stdout.close()
    ends = time.monotonic() + 10
    while _is_qemu_nbd(pid):
        assert time.monotonic() < ends
        time.sleep(0.02)


def _is_qemu_nbd(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return b"qemu-nbd" in file.read()
    except OSError:
        return False


def test_what_cannot_be_served_says_why(image, tmp_path):
    with pytest.raises(TrackingLost, match="bitmap"):
        ImageServer(image, tmp_path / "s", "no-such")
    with pytest.raises(HypervisorError, match="qemu-nbd cannot read"):
        ImageServer(DiskXml("vda", "file", "qcow2", str(tmp_path / "absent")), tmp_path / "s", None)
