"""A VM that was renamed on its host is known by its new name from then on: here, to its agent, and in the vault."""

from __future__ import annotations

from collections.abc import Iterable

from leeward.console.checks import VaultOpener
from leeward.console.desk import Desk
from leeward.console.fleet import Fleet, FleetView
from leeward.console.learning import CATALOG, catalog_document
from leeward.domain.lifecycle import under_way
from leeward.state.database import Database
from leeward.wire.messages import ProtectionMessage


def names_now(wishes: Iterable[ProtectionMessage], view: FleetView) -> dict[str, str]:
    """VM id → the name that it has on its host now; of one that is not there, the last one known."""
    present = {(vm.id, vm.host): vm.name for vm in view.vms}
    return {wish.vm_id: present.get((wish.vm_id, wish.host), wish.vm_name) for wish in wishes}


def follow_names(database: Database, fleet: Fleet, desk: Desk, vault: VaultOpener) -> list[str]:
    """Take over the names that protected VMs have on their hosts now; returns those that are new.

    Otherwise the vault would answer to a name that may belong to another VM by now, and what a run tells somebody to
    type would be about that one. Raises LeewardError when it cannot be told; the next look does it then.
    """
    wishes = database.desired().protections
    names, lives = names_now(wishes, fleet.view()), database.lives.all()
    renamed, changed = [], False
    for wish in wishes:
        name, life = names[wish.vm_id], lives.get(wish.vm_id)
        known = {wish.vm_name, life.vm_name if life else wish.vm_name}
        if known == {name} or (life is not None and under_way(life.phase)):
            continue
        if name != wish.vm_name:
            # The vault first: once the database has the name, nothing would remind us of the vault.
            document = catalog_document(wish.model_copy(update={"vm_name": name}))
            vault.open().put_document(wish.vm_id, CATALOG, document)
        database.rename(wish.vm_id, name)
        changed = True
        if name != wish.vm_name:
            database.record("renamed", name, f"it was {wish.vm_name}", who="leeward")
            renamed.append(name)
    if changed:
        desk.spread()
    return renamed
