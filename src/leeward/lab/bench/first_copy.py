"""One first copy in a process of its own, so that its time and memory can be taken from outside.

`python -m leeward.lab.bench.first_copy URI VM-ID VAULT-FOLDER SCRATCH [standby]`

standby: open the vault and the host, then wait to be told to begin (see `measure.run_ready`): an agent has both open
long before somebody protects a VM.
"""

from __future__ import annotations

import sys
from pathlib import Path

from leeward.hypervisors.libvirt.host import LibvirtHost
from leeward.lab.bench.measure import readied
from leeward.replication.pool import CopyPool
from leeward.replication.replicator import Replicator
from leeward.vault.facade import Vault
from leeward.vault.stores.local import LocalStore


def main(uri: str, vm_id: str, folder: str, scratch: str, standby: str = "") -> None:
    vault = Vault.open(LocalStore(Path(folder)), passphrase="bench")
    host = LibvirtHost("bench", uri, Path(scratch))
    if standby:
        host.vms()
    with CopyPool.make() as pool:
        replicator = Replicator(host, vault.log(vm_id), vm_id, pool, writer_name="bench")
        with readied(wait=bool(standby)):
            result = replicator.cycle()
        replicator.maintain()
    (Path(folder).parent / "bench.key").write_bytes(vault.keys.to_bytes())
    print(f"{result.examined} bytes examined, {result.stored} stored")
    host.forget(vm_id)


if __name__ == "__main__":
    main(*sys.argv[1:])
