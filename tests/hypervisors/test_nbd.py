"""The libnbd binding against a real qemu-nbd."""

import random
import socket
import subprocess
import time

import pytest

from leeward.domain.errors import HypervisorError
from leeward.hypervisors import nbd

MIB = 1 << 20


def answers(path):
    """It makes its socket a moment before it listens."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


@pytest.fixture
def serve(tmp_path):
    started = []

    def start(image, *options):
        path = tmp_path / f"{len(started)}.sock"
        command = ["qemu-nbd", "--persistent", "--shared=0", f"--socket={path}", "--export-name=vda", *options]
        process = subprocess.Popen([*command, str(image)])
        started.append(process)
        while not answers(path):
            assert process.poll() is None
            time.sleep(0.005)
        return path, process

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def data():
    return random.Random(1).randbytes(2 * MIB) + bytes(3 * MIB) + random.Random(2).randbytes(MIB + 512)


@pytest.fixture
def raw(tmp_path, data):
    path = tmp_path / "disk.raw"
    with path.open("wb") as file:
        file.write(data[: 2 * MIB])
        file.seek(5 * MIB)
        file.write(data[5 * MIB :])
    return path


def test_size_reads_and_allocation(serve, raw, data):
    path, _ = serve(raw, "--read-only", "--format=raw")
    with nbd.Nbd(path, "vda", [nbd.ALLOCATION]) as client:
        assert client.size == len(data)
        assert client.pread(len(data), 0) == data
        rows = client.status()[nbd.ALLOCATION]
    assert rows[:, 1].sum() == len(data)
    zero = [(start, length) for start, length, flags in rows.tolist() if flags & nbd.ZERO]
    assert zero == [(2 * MIB, 3 * MIB)]


def test_many_reads_at_once(serve, raw, data):
    path, _ = serve(raw, "--read-only", "--format=raw")
    dice = random.Random(3)
    places = [(dice.randrange(len(data) - 70_000), dice.randrange(1, 70_000)) for _ in range(400)]
    with nbd.Nbd(path, "vda") as client:
        buffers = [bytearray(length) for _, length in places]
        client.read_into([(at, memoryview(buffer)) for (at, _), buffer in zip(places, buffers, strict=True)])
    for (at, length), buffer in zip(places, buffers, strict=True):
        assert buffer == data[at : at + length]


def test_a_bitmap_and_the_allocation_in_one_pass(serve, tmp_path):
    image = tmp_path / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(image), "64M"], check=True)
    subprocess.run(["qemu-io", "-c", "write -P 1 0 8M", str(image)], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["qemu-img", "bitmap", "--add", str(image), "since"], check=True)
    for change in ("write -P 2 1M 64k", "write -z 4M 128k", "write -P 3 50M 1"):
        subprocess.run(["qemu-io", "-c", change, str(image)], check=True, stdout=subprocess.DEVNULL)
    path, _ = serve(image, "--read-only", "--format=qcow2", "--bitmap=since")
    context = "qemu:dirty-bitmap:since"
    with nbd.Nbd(path, "vda", [nbd.ALLOCATION, context]) as client:
        rows = client.status()
    dirty = [(start, length) for start, length, flags in rows[context].tolist() if flags & nbd.DIRTY]
    assert dirty == [(1 << 20, 65536), (4 << 20, 131072), (50 << 20, 65536)]
    assert rows[nbd.ALLOCATION][:, 1].sum() == 64 << 20


def test_what_is_written_and_zeroed_is_there_after_a_flush(serve, tmp_path, data):
    image = tmp_path / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(image), "6G"], check=True)
    path, process = serve(image, "--format=qcow2", "--discard=unmap")
    with nbd.Nbd(path, "vda", [nbd.ALLOCATION]) as client, nbd.Nbd(path, "vda") as other:
        client.pwrite(memoryview(bytearray(data)), 512)
        client.pwrite(memoryview(bytearray(data)), 5 << 30)
        assert other.pread(len(data), 512) == data
        client.zero((5 << 30) + MIB - MIB, MIB)  # across what one request can name
        other.flush()
        rows = client.status()[nbd.ALLOCATION]
        used = [(start, length) for start, length, flags in rows.tolist() if not flags & nbd.ZERO]
        process.kill()
        process.wait()
    assert used[0] == (0, MIB)
    raw = tmp_path / "raw"
    subprocess.run(["qemu-img", "convert", "-O", "raw", str(image), str(raw)], check=True)
    expected = bytearray(6 << 30 >> 10)  # the first of 1024 parts is enough of the zeros
    expected[512:MIB] = data[: MIB - 512]
    with raw.open("rb") as file:
        assert file.read(len(expected)) == expected
        file.seek((5 << 30) + MIB)
        assert file.read(len(data) - MIB) == data[MIB:]


def test_writing_to_a_server_that_does_not_take_it_is_an_error(serve, raw):
    path, _ = serve(raw, "--read-only", "--format=raw")
    with nbd.Nbd(path, "vda") as client:
        with pytest.raises(HypervisorError, match="write failed"):
            client.pwrite(memoryview(bytearray(512)), 0)
        with pytest.raises(HypervisorError, match="zeroing failed"):
            client.zero(512, 0)


def test_errors_say_what_and_where(serve, raw, tmp_path):
    path, process = serve(raw, "--read-only", "--format=raw")
    with pytest.raises(HypervisorError, match="vdx at"):
        nbd.Nbd(path, "vdx")
    with pytest.raises(HypervisorError, match="does not offer"):
        nbd.Nbd(path, "vda", ["qemu:dirty-bitmap:absent"])
    with pytest.raises(HypervisorError, match="cannot connect"):
        nbd.Nbd(tmp_path / "absent.sock", "vda")
    with nbd.Nbd(path, "vda") as client:
        with pytest.raises(HypervisorError):
            client.pread(512, 100 * MIB)
        process.kill()
        process.wait()
        with pytest.raises(HypervisorError):
            client.pread(512, 0)
        with pytest.raises(HypervisorError):
            client.read_into([(0, memoryview(bytearray(512))), (4096, memoryview(bytearray(512)))])
