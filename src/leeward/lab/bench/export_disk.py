"""One export in a process of its own.

`python -m leeward.lab.bench.export_disk VAULT-FOLDER KEY VM-ID DISK TARGET`
"""

from __future__ import annotations

import sys
from pathlib import Path

from leeward.recovery.image import export_image
from leeward.vault.crypto import VaultKeys
from leeward.vault.facade import Vault
from leeward.vault.stores.local import LocalStore


def main(folder: str, key: str, vm_id: str, disk: str, target: str) -> None:
    vault = Vault.open(LocalStore(Path(folder)), keys=VaultKeys.from_bytes(Path(key).read_bytes()))
    with vault.log(vm_id).open_point("latest") as image:
        export_image(image, disk, Path(target))


if __name__ == "__main__":
    main(*sys.argv[1:])
