"""The NBD server against real clients (qemu-img, nbdinfo, libnbd) and against garbage."""

import asyncio
import random
import socket
import struct
import subprocess
import threading
import time

import pytest

from leeward.domain.errors import Damaged, HypervisorError, StoreUnavailable
from leeward.hypervisors.nbd import ALLOCATION, Nbd
from leeward.recovery.nbd_server import NbdServer

MIB = 1 << 20
BLOCK = 65536


class MemoryDisk:
    """A disk of 64 KiB blocks, some zero; reads can be made to fail."""

    def __init__(self, name, data):
        self.name, self.data, self.size = name, data, len(data)
        self.failure = None
        self.reads = 0

    def read(self, offset, length):
        self.reads += 1
        if self.failure:
            raise self.failure
        return self.data[offset : offset + length]

    def allocation(self, offset, length):
        spans, end = [], offset + length
        while offset < end:
            stop = min((offset // BLOCK + 1) * BLOCK, end)
            block = offset // BLOCK * BLOCK
            data = any(self.data[block : block + BLOCK])
            if spans and spans[-1][1] == data:
                spans[-1] = (spans[-1][0] + stop - offset, data)
            else:
                spans.append((stop - offset, data))
            offset = stop
        return spans

    def prefetch(self, offset, length):
        self.read(offset, length)


@pytest.fixture
def disks():
    dice = random.Random(1)
    data = dice.randbytes(MIB) + bytes(3 * MIB) + dice.randbytes(MIB + 512)
    return {"vda": MemoryDisk("vda", data), "vdb": MemoryDisk("vdb", dice.randbytes(2 * MIB))}


@pytest.fixture
def served(disks, tmp_path):
    path = tmp_path / "nbd.sock"
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(NbdServer(disks).serve_at(path, stop)))
    thread.start()
    while not path.exists():
        time.sleep(0.005)
    yield path
    loop.call_soon_threadsafe(stop.set)
    thread.join(10)
    assert not thread.is_alive()


def test_qemu_img_reads_every_byte(served, disks, tmp_path):
    for name, disk in disks.items():
        target = tmp_path / f"{name}.raw"
        uri = f"nbd+unix:///{name}?socket={served}"
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "raw", uri, str(target)], check=True)
        assert target.read_bytes() == disk.data


def test_nbdinfo_understands_the_server(served, disks):
    uri = f"nbd+unix:///vda?socket={served}"
    said = subprocess.run(["nbdinfo", uri], check=True, capture_output=True, text=True).stdout
    assert "is_read_only: true" in said
    assert "can_multi_conn: true" in said
    listed = subprocess.run(["nbdinfo", "--list", uri], check=True, capture_output=True, text=True).stdout
    assert 'export="vda"' in listed
    assert 'export="vdb"' in listed


def test_zero_ranges_are_told_and_not_read(served, disks):
    with Nbd(served, "vda", [ALLOCATION]) as client:
        rows = client.status()[ALLOCATION].tolist()
    assert rows == [[0, MIB, 0], [MIB, 3 * MIB, 3], [4 * MIB, MIB + 512, 0]]
    assert disks["vda"].reads == 0


def test_holes_are_not_read_either_when_somebody_reads_them(served, disks):
    disk = disks["vda"]
    with Nbd(served, "vda") as client:
        assert client.pread(3 * MIB, MIB) == bytes(3 * MIB)
        assert disk.reads == 0
        assert client.pread(3 * MIB, MIB - 1) == disk.data[MIB - 1 : 4 * MIB - 1]
        assert disk.reads == 1


def test_many_requests_under_way_at_once(served, disks):
    data = disks["vda"].data
    dice = random.Random(2)
    places = [(dice.randrange(0, len(data) - 5000), dice.randrange(1, 5000)) for _ in range(300)]
    with Nbd(served, "vda") as client:
        buffers = [bytearray(length) for _, length in places]
        client.read_into([(at, memoryview(b)) for (at, _), b in zip(places, buffers, strict=True)])
    for (at, length), buffer in zip(places, buffers, strict=True):
        assert buffer == data[at : at + length]


def test_reads_are_held_while_the_vault_is_away(served, disks):
    disk = disks["vda"]
    disk.failure = StoreUnavailable("no route")
    got = []
    with Nbd(served, "vda") as client:
        reader = threading.Thread(target=lambda: got.append(client.pread(4096, 0)))
        reader.start()
        reader.join(1.0)
        assert reader.is_alive()
        disk.failure = None
        reader.join(5.0)
    assert got == [disk.data[:4096]]


def test_a_client_that_leaves_during_an_outage_frees_everything(served, disks):
    disks["vda"].failure = StoreUnavailable("no route")
    client = Nbd(served, "vda")
    threading.Thread(target=_read_until_error, args=(client,), daemon=True).start()
    time.sleep(0.3)
    probe = socket.socket(socket.AF_UNIX)
    probe.connect(str(served))
    assert probe.recv(8) == b"NBDMAGIC"
    probe.close()


def _read_until_error(client):
    with pytest.raises(HypervisorError):
        client.pread(4096, 0)


def test_damage_is_an_error_at_once_and_other_reads_go_on(served, disks):
    disks["vda"].failure = Damaged("frame 3 is damaged", subject="vm/x/log/1")
    with Nbd(served, "vda") as client, pytest.raises(HypervisorError, match="EIO"):
        client.pread(4096, 0)
    with Nbd(served, "vdb") as client:
        assert client.pread(4096, 0) == disks["vdb"].data[:4096]


def test_nobody_writes(served, disks):
    before = disks["vdb"].data
    uri = f"nbd+unix:///vdb?socket={served}"
    done = subprocess.run(["qemu-io", "-f", "raw", "-c", "write 0 4096", uri], capture_output=True, check=False)
    assert done.returncode != 0 or b"read-only" in done.stdout + done.stderr
    assert disks["vdb"].data == before


def test_unknown_disk_is_refused(served):
    with pytest.raises(HypervisorError, match="no export named"):
        Nbd(served, "vdz")


def test_garbage_does_not_harm_others(served, disks):
    dice = random.Random(3)
    for round_ in range(60):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(2)
            client.connect(str(served))
            client.recv(18)
            if round_ % 3:
                client.sendall(struct.pack(">I", 3))
            if round_ % 3 == 2:
                name = b"vda"
                go = struct.pack(">I", len(name)) + name + struct.pack(">H", 0)
                client.sendall(b"IHAVEOPT" + struct.pack(">II", 7, len(go)) + go)
            client.sendall(dice.randbytes(dice.randrange(1, 400)))
    with Nbd(served, "vda") as client:
        assert client.pread(512, 0) == disks["vda"].data[:512]
