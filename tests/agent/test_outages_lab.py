"""The vault goes away, becomes read-only, fills up, while the real daemon protects a guest that writes all the while.

All is seen through the commands. After each outage the daemon must have caught up by itself: the points of the outage
are in the vault, and the newest one holds every record that the guest had durably written before it was made.
"""

import os
import signal
import subprocess
import time
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import libvirt
import pytest
from tests.installation import Installation

pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.timeout(600)]
IP = "10.77.0.71"
VM = "outage"
SPOOL = 6 << 20


class Office(Installation):
    """A protected guest; its vault lies on a small file system of its own, mounted at `volume`."""

    def __init__(self, lab):
        super().__init__(lab, "outage", spool_limit=SPOOL)
        self.image = self.root / "volume.img"
        with self.image.open("wb") as file:
            file.truncate(256 << 20)
        run("mkfs.ext4", "-q", "-m", "0", self.image)
        run("mount", "-o", "loop", self.image, self.volume)
        self.seen = []

    def __exit__(self, *exc):
        self.end()
        run("umount", "--lazy", self.volume)
        super().__exit__(*exc)

    def written(self):
        """The last record that the guest has durably on both disks."""
        return self.lab.http("office", IP, "/")["seq"]

    def watch(self, seconds, said):
        """Through an outage: what is told must be true at every look. Returns the last status."""
        ends, before = time.monotonic() + seconds, None
        while time.monotonic() < ends:
            asked = time.time()
            status = self("status", VM)
            self.seen.append(status["state"])
            # The age of the newest point in the vault, neither flattered by the spool nor by anything else.
            point = stamp(status["last_point"]["time"])
            assert asked - point - 0.1 <= status["rpo_actual_s"] <= time.time() - point + 0.1, status
            assert status["failover_possible"]
            assert len(status["reason"].splitlines()) <= 1
            if before:
                assert status["last_point"] == before["last_point"]
                assert status["rpo_actual_s"] > before["rpo_actual_s"]
                assert said in status["reason"], status
            if status["reason"]:
                before = status
            time.sleep(0.5)
        assert before, "the outage was never told"
        return before

    def calm(self):
        """Wait until nothing is to be told and the newest point is young."""
        self.until(
            VM, lambda s: (s["state"], s["reason"], s["spool_bytes"]) == ("enabled", "", 0) and s["rpo_actual_s"] < 2
        )

    def recovered(self, tmp_path, outage, least, told, *, middle=False):
        """Caught up: `least` points from within the outage, every record, a sound vault. Returns the points.

        outage: its begin and end. told: a record number that was durable in the guest at its end. middle: look into
        one of the outage's points too.
        """
        self.calm()
        points = self("points", VM)
        assert [int(point["id"]) for point in points] == sorted({int(point["id"]) for point in points})
        within = [point for point in points if outage[0] < stamp(point["time"]) < outage[1]]
        assert len(within) >= least, (outage, points)
        newest = self.records(VM, tmp_path)
        assert newest["vdb"].last >= told
        assert 0 <= newest["vda"].last - newest["vdb"].last <= 1
        if middle:
            # A point that was in the spool is as good as any: it holds what was written before its instant.
            point = within[len(within) // 2]
            held = self.records(VM, tmp_path, point["id"])
            assert 0 <= held["vda"].last - held["vdb"].last <= 1
            # Who has stamped the next record has this one on its disk. The guest set its clock to the second.
            before = [n for n, at in newest["vdb"].times_ns.items() if at / 1e9 < stamp(point["time"]) - 1.5]
            assert held["vdb"].last >= max(before) - 1
        assert self("vault", "check", "--deep")["sound"]
        # What the tracking knew was never lost: nothing had to be compared.
        assert "resynchronizing" not in self.seen
        assert {point["epoch"] for point in points} == {1}
        return points


def stamp(text):
    return datetime.fromisoformat(text).timestamp()


def run(*words):
    subprocess.run([str(word) for word in words], check=True)


@contextmanager
def domain(lab):
    connection = libvirt.open(lab.libvirt("office"))
    try:
        yield connection.lookupByName(VM)
    finally:
        connection.close()


@pytest.fixture(scope="module")
def office(lab):
    lab.define_guest("office", VM, disks=(64, 32), ip=IP)
    lab.wait_http("office", IP, timeout_s=90)
    try:
        with Office(lab) as made:
            made("vault", "init")
            made("protect", VM, "--rpo", "1s", "--wait")
            yield made
            made("unprotect", VM)
            made.end()
            assert nothing_is_left(made) == []
    finally:
        lab.destroy_guest("office", VM)


@pytest.fixture(autouse=True)
def calm(office):
    office.calm()


def nothing_is_left(office):
    """Checkpoints and jobs on the guest, sockets and scratch files, processes, whatever waits in the spool."""
    with domain(office.lab) as guest:
        left = [checkpoint.getName() for checkpoint in guest.listAllCheckpoints(0)]
        if guest.jobInfo()[0] != libvirt.VIR_DOMAIN_JOB_NONE:
            left.append("a job")
    scratch = (office.state / "scratch").rglob("*")
    left += [str(path) for path in scratch if not path.is_dir()]
    # What waits lies in folders named by numbers; the other one tells whose spool it is.
    left += [str(path) for path in (office.state / "spool").glob("*/[0-9]*/**/*") if not path.is_dir()]
    mark = str(office.state).encode()
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
        except OSError:
            continue
        if mark in line:
            left.append(line.decode(errors="replace"))
    return left


def test_a_vault_that_is_away(office, tmp_path):
    hidden = office.vault.with_name("hidden")
    begin = time.time()
    office.vault.rename(hidden)
    try:
        status = office.watch(16, "in the local spool: ")
        assert "Is its disk mounted?" in status["reason"]
        # Six targets late, it is an error; a blip would not be.
        assert status["state"] == "error"
        assert status["spool_bytes"] > 0
        failed = office("points", VM, code=5)["error"]
        assert "no store in this folder" in failed["message"]
        told = office.written()
    finally:
        hidden.rename(office.vault)
    # The store tries for five seconds before it gives up; from then on there is a point a second.
    office.recovered(tmp_path, (begin, time.time()), 6, told, middle=True)


def test_killed_in_the_middle_of_an_outage(office, tmp_path):
    hidden = office.vault.with_name("hidden")
    begin = time.time()
    office.vault.rename(hidden)
    try:
        office.until(VM, lambda status: status["spool_bytes"] > 0)
        time.sleep(3)
        told = office.written()
        waiting = office.watch(1.2, "in the local spool: ")
        office.end(signal.SIGKILL)
        # Started again while the vault is away still: what it holds cannot be known, and that is what is said.
        status = office.until(VM, lambda status: status["state"] == "error")
        assert "newest point is not known" in status["reason"]
        assert status["rpo_actual_s"] is None
        assert status["failover_possible"] is False
        office.end(signal.SIGKILL)
    finally:
        hidden.rename(office.vault)
    office.recovered(tmp_path, (begin, time.time()), int(waiting["reason"].split()[0]), told, middle=True)


def test_a_vault_that_is_read_only(office, tmp_path):
    begin = time.time()
    remount(office, "ro")
    try:
        status = office.watch(6, "in the local spool: ")
        assert "cannot write: read-only file system" in status["reason"]
        assert "Mount the file system writable" in status["reason"]
        told = office.written()
        # It can be read: what is listed is what can be recovered, and it is recovered without a pin.
        assert office("points", VM)[-1]["id"] == status["last_point"]["id"]
        test = office("failover", "test", VM, "--wait")
        assert test["point"] == status["last_point"]["id"]
        assert test["evidence"]["agent"] == "answers"
        office("failover", "cleanup", VM)
    finally:
        remount(office, "rw")
    office.recovered(tmp_path, (begin, time.time()), 4, told)


def remount(office, how):
    """A put that is just under way keeps the file system busy for an instant."""
    ends = time.monotonic() + 10
    while subprocess.run(
        ["mount", "-o", f"remount,{how}", str(office.volume)], check=False, capture_output=True
    ).returncode:
        assert time.monotonic() < ends
        time.sleep(0.02)


def test_a_vault_that_is_full(office, tmp_path):
    begin = time.time()
    junk = office.volume / "junk"
    fill(junk)
    try:
        status = office.watch(6, "in the local spool: ")
        assert "the store is full" in status["reason"]
        assert "Free space" in status["reason"]
        told = office.written()
        assert office.records(VM, tmp_path)["vdb"].last > 0
    finally:
        junk.unlink()
    office.recovered(tmp_path, (begin, time.time()), 4, told)


def fill(file):
    """Take all the room there is."""
    with file.open("wb", buffering=0) as target:
        for size in (1 << 20, 4096):
            try:
                while True:
                    target.write(bytes(size))
            except OSError:
                pass
        os.fsync(target.fileno())


def test_a_spool_that_fills_drops_points_never_changes(office, tmp_path):
    hidden = office.vault.with_name("hidden")
    begin = time.time()
    office.vault.rename(hidden)
    try:
        office.until(VM, lambda status: "points wait" in status["reason"])
        burnt = office.lab.http("office", IP, "/burn?10", timeout_s=60)
        assert burnt["error"] == 0
        status = office.until(VM, lambda status: "the spool is full" in status["reason"])
        assert status["spool_bytes"] <= SPOOL
        assert sum(path.stat().st_size for path in (office.state / "spool").rglob("*") if path.is_file()) <= SPOOL
        status = office.watch(6, "the spool is full")
        assert "Changes stay tracked" in status["reason"]
        told = office.written()
    finally:
        hidden.rename(office.vault)
    end = time.time()
    points = office.recovered(tmp_path, (begin, end), 1, told)
    # The first point after it holds what was dropped.
    late = next(point for point in points if stamp(point["time"]) > end)
    assert late["bytes"] > SPOOL // 2, points[-20:]
