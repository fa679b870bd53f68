"""How each VM stands, put together from what agents, database and vault tell of it.

What was made of the same facts before is taken again: with ten thousand VMs, of which nothing new is told most of the
time, a picture of everything would take most of a core otherwise.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from leeward.console.fleet import FleetView
from leeward.console.listing import ALL, Listing, Page, Row
from leeward.console.outlook import Outlook
from leeward.console.showing import disabled_view, status_view, vm_view
from leeward.console.views import StatusView, VmView
from leeward.state.database import Database
from leeward.state.lives import Life
from leeward.wire.messages import (
    CopyReport,
    HostReport,
    ProtectionMessage,
    ProtectionReport,
    ReplicaReport,
    VmMessage,
)


class _Facts(NamedTuple):
    """told: as it was told, not older by now. elsewhere: what a host that keeps the VM off has to say of it."""

    wish: ProtectionMessage | None
    told: ProtectionReport | None
    vm: VmMessage | None
    copy: CopyReport | None
    life: Life | None
    replica: ReplicaReport | None
    elsewhere: str


class _VmFacts(NamedTuple):
    vm: VmMessage
    protected: bool
    copy: CopyReport | None


_Shown = tuple[_Facts, StatusView]
# By host and VM id.
_ShownVms = dict[tuple[str, str], tuple[_VmFacts, VmView]]


class _Listed(NamedTuple):
    """A listing, and what it was made of."""

    wishes: Mapping[str, ProtectionMessage]
    hosts: tuple[HostReport, ...]
    copies: tuple[CopyReport, ...]
    listing: Listing


class Statuses:
    """Thread-safe: what is kept is replaced as a whole."""

    def __init__(self, database: Database, outlook: Outlook) -> None:
        self._database = database
        self._outlook = outlook
        self._listed: _Listed | None = None
        self._shown: dict[str, _Shown] = {}
        self._shown_vms: tuple[Listing, _ShownVms] | None = None

    def listing(self, view: FleetView) -> Listing:
        """Made anew only when hosts or wishes are others."""
        wishes, hosts = self._database.wishes(), tuple(view.hosts.values())
        copies = _test_copies(view)
        listed = self._listed
        if listed is None or listed.wishes is not wishes or listed[1:3] != (hosts, copies):
            self._listed = listed = _Listed(wishes, hosts, copies, Listing(wishes, view.vms, copies))
        return listed.listing

    # --- of everything, as pictures need it ---------------------------------------------------------------

    def all(self, view: FleetView) -> list[StatusView]:
        listing, lives = self.listing(view), self._database.lives.all()
        shown = {}
        found = []
        for row in listing.page(ALL)[0]:
            facts = self._facts(listing, view, row, lives.get(row.vm_id))
            shown[row.vm_id] = entry = _kept(self._shown, row.vm_id, facts)
            found.append(_aged(entry[1], view, facts))
        self._shown = shown
        return found

    def all_vms(self, view: FleetView) -> list[VmView]:
        listing, shown = self.listing(view), self._shown_vms
        if shown is None or shown[0] is not listing:
            self._shown_vms = shown = listing, self._renewed(listing, shown[1] if shown else {})
        return [made for _, made in shown[1].values()]

    @staticmethod
    def _renewed(listing: Listing, known: _ShownVms) -> _ShownVms:
        """A change of one VM's policy makes another listing, but the other VMs are as they were."""
        found: _ShownVms = {}
        for vm in listing.vms(ALL)[0]:
            key, facts = (vm.host, vm.id), _vm_facts(listing, vm)
            before = known.get(key)
            found[key] = before if before is not None and before[0] == facts else (facts, _vm_view(facts))
        return found

    # --- of a few -----------------------------------------------------------------------------------------

    def page(self, view: FleetView, page: Page) -> tuple[list[StatusView], int]:
        """A page of all VMs, protected or not; and how many there are on all pages."""
        listing, lives = self.listing(view), self._database.lives.all()
        rows, count = listing.page(page)
        return [self._one(listing, view, row, lives.get(row.vm_id)) for row in rows], count

    def few(self, view: FleetView, vm_ids: Collection[str]) -> tuple[list[StatusView], list[VmView]]:
        """Of a few VMs (none for a test copy, which is no VM of its own), and what hosts have of them."""
        # A listing of all would have to be made anew after each change of a policy.
        wanted, lives = frozenset(vm_ids), self._database.lives
        wishes = {vm_id: wish for vm_id in wanted if (wish := self._database.wish(vm_id))}
        listing = Listing(wishes, [vm for vm in view.vms if vm.id in wanted], _test_copies(view))
        statuses = [self._one(listing, view, row, lives.get(row.vm_id)) for row in listing.rows.values()]
        return statuses, [_vm_view(_vm_facts(listing, vm)) for vm in listing.vms(ALL)[0]]

    def vms(self, view: FleetView, page: Page) -> tuple[list[VmView], int]:
        """A page of what hosts have, test copies too; and how many there are on all pages."""
        listing = self.listing(view)
        rows, count = listing.vms(page)
        return [_vm_view(_vm_facts(listing, vm)) for vm in rows], count

    # --- insides ------------------------------------------------------------------------------------------

    def _one(self, listing: Listing, view: FleetView, row: Row, life: Life | None) -> StatusView:
        facts = self._facts(listing, view, row, life)
        return _aged(_kept(self._shown, row.vm_id, facts)[1], view, facts)

    def _facts(self, listing: Listing, view: FleetView, row: Row, life: Life | None) -> _Facts:
        wish, copy = row.wish, listing.copies.get(row.vm_id)
        if wish is None:
            return _Facts(None, None, row.vm, copy, life, None, "")
        # By the VM's agent; where nobody has that host, by the vault.
        told = view.told(wish) if wish.host in view.hosts else self._outlook.report(wish)
        replica = view.replica(row.vm_id, wish.policy.warm)
        return _Facts(wish, told, row.vm, copy, life, replica, view.notes.get(row.vm_id, ""))


def _kept(shown: Mapping[str, _Shown], vm_id: str, facts: _Facts) -> _Shown:
    """What was made of these facts before, or is made now."""
    known = shown.get(vm_id)
    # With the facts of now: equal ones that are the same objects need not be compared the next time.
    return facts, known[1] if known is not None and known[0] == facts else _view(facts)


def _view(facts: _Facts) -> StatusView:
    if facts.wish is not None:
        return status_view(facts.wish, facts.told, facts.vm, facts.copy, facts.life, facts.replica, facts.elsewhere)
    assert facts.vm is not None
    return disabled_view(facts.vm, facts.copy, facts.life)


def _vm_facts(listing: Listing, vm: VmMessage) -> _VmFacts:
    return _VmFacts(vm, vm.id in listing.wishes, listing.copies_by_id.get(vm.id))


def _vm_view(facts: _VmFacts) -> VmView:
    return vm_view(facts.vm, protected=facts.protected, copy=facts.copy)


def _aged(shown: StatusView, view: FleetView, facts: _Facts) -> StatusView:
    return shown if facts.wish is None else shown.aged(view.since_told(facts.wish.host))


def _test_copies(view: FleetView) -> tuple[CopyReport, ...]:
    return tuple(copy for copy in view.copies if copy.purpose == "test")
