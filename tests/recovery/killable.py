"""Brings a VM up and kills itself at a step: `python killable.py URI VM IMAGES FOLDER VAULT KEY STEP`."""

import os
import signal
import sys
from pathlib import Path

from leeward.recovery.copies import Copies
from leeward.recovery.libvirt.host import LibvirtRecoveryHost
from leeward.vault.crypto import VaultKeys
from leeward.vault.facade import Vault
from leeward.vault.stores.local import LocalStore


def main(uri, vm_id, images, folder, vault_dir, key, step):
    def die(name):
        if name == step:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_step(record):
        if any(one.name == step and one.state == "running" for one in record.steps):
            die(step)

    vault = Vault.open(LocalStore(Path(vault_dir)), keys=VaultKeys.from_bytes(Path(key).read_bytes()))
    host = LibvirtRecoveryHost("recovery", uri, Path(images))
    copies = Copies(host, Path(folder), vault_dir, Path(key), vault, on_instant=die)
    copies.build(vm_id, "moved", "latest", "failover", {}, on_step)
    copies.start(vm_id, "failover", on_step)


main(*sys.argv[1:])
