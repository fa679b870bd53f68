"""A VM that was renamed on its host is known by its new name from then on: here, to its agent, and in the vault."""

from __future__ import annotations

from leeward.console.checks import VaultOpener
from leeward.console.desk import Desk
from leeward.console.fleet import Fleet
from leeward.console.learning import CATALOG, catalog_document
from leeward.domain.lifecycle import under_way
from leeward.state.database import Database


def follow_names(database: Database, fleet: Fleet, desk: Desk, vault: VaultOpener) -> list[str]:
    """Take over the names that protected VMs have on their hosts now; returns those that are new.

    Otherwise the vault would answer to a name that may belong to another VM by now. Raises LeewardError when it
    cannot be told; the next look does it then.
    """
    present = {(vm.id, vm.host): vm.name for vm in fleet.view().vms}
    renamed = []
    for wish in database.desired().protections:
        name = present.get((wish.vm_id, wish.host), wish.vm_name)
        if name == wish.vm_name:
            continue
        life = database.lives.get(wish.vm_id)
        if life is not None and under_way(life.phase):
            continue
        # The vault first: once the database has the name, nothing would remind us of the vault.
        document = catalog_document(wish.model_copy(update={"vm_name": name}))
        vault.open().put_document(wish.vm_id, CATALOG, document)
        database.rename(wish.vm_id, name)
        database.record("renamed", name, f"it was {wish.vm_name}", who="leeward")
        renamed.append(name)
    if renamed:
        desk.spread()
    return renamed
