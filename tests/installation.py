"""One Leeward in the lab: configuration, vault and state folder of its own, its real daemon, and the commands."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import libvirt
from tests.commands import leeward

from leeward.lab.guest.sequence import inspect


def empty_recovery_site(lab):
    """Take away the VMs that have moved there, and their images; whoever moved them is not to run any more."""
    connection = libvirt.open(lab.libvirt("recovery"))
    try:
        for domain in connection.listAllDomains(0):
            if domain.isActive():
                domain.destroy()
            domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM)
    finally:
        connection.close()
    for image in lab.places.images("recovery").glob("*.*"):
        image.unlink()


def records(status):
    """The newest record on each disk that the guest found when it booted."""
    assert all(disk["boot_intact"] for disk in status["disks"])
    assert status["error"] == 0
    return [disk["boot_seq"] for disk in status["disks"]]


class Installation:
    """What an operator has. The daemon starts by itself with the first command that needs it.

    daemon: more lines of the configuration's [daemon] section. The vault lies one folder below `volume`, so that a
    file system can be mounted there.
    """

    def __init__(self, lab, name, **daemon):
        self.lab = lab
        self.root = Path(lab.places.root) / name
        shutil.rmtree(self.root, ignore_errors=True)
        self.volume, self.state = self.root / "volume", self.root / "s"
        self.vault = self.volume / "vault"
        self.volume.mkdir(parents=True)
        self.config = self.root / "leeward.toml"
        text = Path(lab.places.config).read_text()
        text = text.replace(lab.places.vault.as_uri(), self.vault.as_uri())
        text = text.replace(f'"{lab.places.state}"', f'"{self.state}"')
        self.config.write_text(text + "".join(f"{key} = {value}\n" for key, value in daemon.items()))
        self.environment = {**os.environ, "LEEWARD_CONFIG": str(self.config), "COLUMNS": "120"}

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.end()
        shutil.rmtree(self.root, ignore_errors=True)

    def __call__(self, *words, code=0):
        """The answer of `leeward WORDS --json`."""
        done = self.call(*words, "--json")
        assert done.returncode == code, (done.stdout, done.stderr)
        return json.loads(done.stdout)

    def call(self, *words):
        return leeward(words, self.environment)

    def until(self, vm, condition, timeout_s=60.0):
        """`leeward status VM` until it is as wished; the last answer."""
        ends = time.monotonic() + timeout_s
        while True:
            status = self("status", vm)
            if condition(status):
                return status
            assert time.monotonic() < ends, status
            time.sleep(0.1)

    # --- the daemon -----------------------------------------------------------------------------------

    def daemon(self):
        """Its process id, or None."""
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    words = (entry / "cmdline").read_bytes().split(b"\0")
                except OSError:
                    continue
                if str(self.config).encode() in words and b"serve" in words:
                    return int(entry.name)
        return None

    def end(self, number=signal.SIGTERM):
        """Signal the daemon, if it runs, and wait until it is gone."""
        pid = self.daemon()
        if pid is None:
            return
        os.kill(pid, number)
        ends = time.monotonic() + 60
        while self.daemon() == pid:
            assert time.monotonic() < ends, "the daemon does not end"
            time.sleep(0.05)

    # --- what there is to recover ---------------------------------------------------------------------

    def records(self, vm, folder, point=None, disks=("vda", "vdb")):
        """Disk → its numbered records as of a point (None: the newest one that is listed now), exported.

        Each file system must be clean, each run of records whole.
        """
        point, found = point or self("points", vm)[-1]["id"], {}
        for disk in disks:
            file = folder / f"{disk}.raw"
            self("export", vm, "--point", point, "--disk", disk, "--to", str(file), "--force")
            state = inspect(file, disk)
            assert state.clean, state.problem
            assert state.records.intact
            found[disk] = state.records
            file.unlink()
        return found
