"""Brings disks to a point, to be killed meanwhile: `python bringer.py VAULT KEY VM FOLDER IMAGES POINT`.

Prints a line for each chunk that is done.
"""

import sys
from pathlib import Path

from leeward.recovery.localdisks import LocalDisks
from leeward.vault.crypto import VaultKeys
from leeward.vault.facade import Vault
from leeward.vault.stores.local import LocalStore


def main(vault_dir, key, vm_id, folder, images, point):
    vault = Vault.open(LocalStore(Path(vault_dir)), keys=VaultKeys.from_bytes(Path(key).read_bytes()))
    log = vault.log(vm_id)
    disks = LocalDisks(Path(folder), log)
    with log.open_point(point) as image:
        paths = {name: Path(images) / f"{name}.qcow2" for name in image.disks}
        disks.reach(image, paths, progress=lambda done, total, fetched: print(done, flush=True))


main(*sys.argv[1:])
