"""Prepares a VM's way home and kills itself: `python killable_home.py URI VM FOLDER STORAGE VAULT KEY INSTANT`.

INSTANT: progress (while disks are written), define (just after the VM was given them), record (just before that is
recorded).
"""

import os
import signal
import sys
from pathlib import Path

from leeward.recovery.home import HomeDisks
from leeward.recovery.libvirt.home_host import HomeHost
from leeward.vault.crypto import VaultKeys
from leeward.vault.facade import Vault
from leeward.vault.stores.local import LocalStore


def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def main(uri, vm_id, folder, storage, vault_dir, key, instant):
    vault = Vault.open(LocalStore(Path(vault_dir)), keys=VaultKeys.from_bytes(Path(key).read_bytes()))
    home = HomeDisks("office", uri, Path(folder), Path(storage), vault)
    seen = []

    def tell(text):
        seen.append(text)
        if instant == "progress" and len(seen) == 5:
            die()

    home.prepare(vm_id, "homer", "latest", tell)
    original = HomeHost.give

    def give(*arguments):
        if instant == "define":
            original(*arguments)
        die()

    HomeHost.give = give
    home.switch(vm_id)


main(*sys.argv[1:])
