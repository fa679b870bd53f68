"""First copy and restore: Leeward and its peers on the same disk, in turn, each with a cold page cache."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from leeward.domain.blocks import BLOCK_SIZE
from leeward.domain.errors import LeewardError
from leeward.lab.bench.measure import Run, Series, drop_caches, need, run, run_ready
from leeward.lab.bench.stage import DATA_DISK, Stage
from leeward.vault.facade import Vault
from leeward.vault.stores.local import LocalStore

_RESTIC = {"RESTIC_PASSWORD": "bench"}
_BORG = {"BORG_PASSPHRASE": "bench", "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes"}


def _python(module: str, *words: str | Path) -> Run:
    return run(_command(module, *words))


def _command(module: str, *words: str | Path) -> list[str | Path]:
    return [sys.executable, "-m", f"leeward.lab.bench.{module}", *words]


def first_copy(stage: Stage, rounds: int, note: Callable[[str], None]) -> list[Series]:
    """Ours first; every contender `rounds` times, in turn, so that a change of the machine's speed hits all."""

    def leeward(*standby: str) -> list[str | Path]:
        folder = stage.fresh("leeward")
        Vault.create(LocalStore(folder), "bench")
        return _command("first_copy", stage.uri, stage.guest.uuid, folder, stage.fresh("scratch"), *standby)

    def qemu_img() -> Run:
        target = stage.fresh("qemu") / "disk.qcow2"
        options = ["-c", "-f", "raw", "-O", "qcow2", "-o", "compression_type=zstd"]
        return run(["qemu-img", "convert", *options, stage.raw, target])

    def borg(chunk: int) -> Run:
        repository = stage.fresh("borg") / "repo"
        program = need("borg", "borgbackup")
        # On processors that have instructions for SHA-256 this is faster than the other encrypted modes.
        run([program, "init", "--encryption=repokey", repository], _BORG)
        words = ["--compression=zstd,1", f"--chunker-params=fixed,{chunk}"]
        return run([program, "create", *words, f"{repository}::one", stage.raw], _BORG)

    def restic() -> Run:
        repository = stage.fresh("restic") / "repo"
        program = need("restic", "restic")
        run([program, "-r", repository, "init"], _RESTIC)
        return run([program, "-r", repository, "--no-cache", "backup", stage.raw], _RESTIC)

    def virtnbdbackup() -> Run:
        folder = stage.fresh("virtnbdbackup")
        # It wants a password for any other address, so it is run where the office's daemon is the local one.
        pid = (Path(stage.lab.places.site("office")) / "libvirtd.pid").read_text().strip()
        inside = ["nsenter", "-t", pid, "-m", need("virtnbdbackup", "virtnbdbackup")]
        words: list[str | Path] = ["-U", "qemu:///system", "-d", "bench", "-l", "full", "-o", folder]
        return run([*inside, *words, "--compress", "-S", folder])

    contenders = {
        "leeward": lambda: run(leeward()),
        # What a user waits for after the click: the agent is a service, and has long opened vault and hypervisor.
        "leeward, agent running": lambda: run_ready(leeward("standby")),
        "qemu-img convert -c (zstd)": qemu_img,
        # Chunks of what Leeward compares and stores by itself, and of what borg's manual advises for disk images.
        "borg (zstd,1, encrypted, chunks of 64 KiB)": lambda: borg(BLOCK_SIZE),
        "borg (zstd,1, encrypted, chunks of 4 MiB)": lambda: borg(4 << 20),
        "restic": restic,
        "virtnbdbackup --compress": virtnbdbackup,
    }
    return _contest(contenders, rounds, note)


def restore(stage: Stage, rounds: int, note: Callable[[str], None]) -> list[Series]:
    """From what `first_copy` left: the whole disk back into a file."""

    def leeward() -> Run:
        target = stage.fresh("out") / "disk.raw"
        key = stage.work / "bench.key"
        return _python("export_disk", stage.work / "leeward", key, stage.guest.uuid, DATA_DISK, target)

    def restic() -> Run:
        words: list[str | Path] = ["--no-cache", "restore", "latest", "--target", stage.fresh("out")]
        return run([need("restic", "restic"), "-r", stage.work / "restic" / "repo", *words], _RESTIC)

    return _contest({"leeward export": leeward, "restic restore": restic}, rounds, note)


def same_content(stage: Stage) -> bool:
    """Does an exported disk equal the original, byte for byte?"""
    target = stage.fresh("out") / "disk.raw"
    key = stage.work / "bench.key"
    _python("export_disk", stage.work / "leeward", key, stage.guest.uuid, DATA_DISK, target)
    return subprocess.run(["cmp", "-s", str(target), str(stage.raw)], check=False).returncode == 0


def _contest(contenders: dict[str, Callable[[], Run]], rounds: int, note: Callable[[str], None]) -> list[Series]:
    found = {name: Series(name) for name in contenders}
    for number in range(rounds):
        for name, contender in contenders.items():
            if found[name].note:
                continue
            note(f"round {number + 1}: {name}")
            drop_caches()
            try:
                found[name].runs.append(contender())
            except LeewardError as error:
                found[name].note = str(error)
    return list(found.values())
