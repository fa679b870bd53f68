"""A replicator in a process of its own, to be killed, forked off one that has imported all of it.

Prints every committed point as a line "point ID"; with STEP it kills itself at that named step of its second cycle.
"""

import os
import signal
import sys
from pathlib import Path

from leeward.domain.errors import Unavailable
from leeward.hypervisors.libvirt.host import LibvirtHost
from leeward.logs import log
from leeward.replication.pool import CopyPool
from leeward.replication.replicator import Replicator
from leeward.vault.crypto import VaultKeys
from leeward.vault.facade import Vault
from leeward.vault.stores.local import LocalStore


def main(uri, vm_id, scratch, folder, key, step=""):
    log.to_json(sys.stderr, verbose=True)
    vault = Vault.open(LocalStore(Path(folder)), keys=VaultKeys.from_bytes(Path(key).read_bytes()))
    host = LibvirtHost("office", uri, Path(scratch))
    seen = []

    def on_step(name):
        if name == step and len(seen) >= 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if name == "tracking-advanced" or name == "cycle-opened":
            seen.append(name)

    with CopyPool.make() as pool:
        engine = Replicator(host, vault.log(vm_id), vm_id, pool, writer_name="killable", on_step=on_step)
        print("ready", flush=True)
        while True:
            try:
                result = engine.cycle()
            except Unavailable:
                continue
            if result.point is not None:
                print("point", result.point.id, result.kind.value, flush=True)
            engine.maintain()


def live(out, *arguments):
    os.dup2(out.fileno(), 1)
    main(*arguments)
