"""Which VMs there are, in what order, and a page of them: looked through without showing each. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeVar

from leeward.console.fleet import FleetView
from leeward.domain.errors import BadInput
from leeward.wire.messages import CopyReport, ProtectionMessage, VmMessage


class Order(StrEnum):
    NAME = "name"
    HOST = "host"


@dataclass(frozen=True, slots=True)
class Page:
    """search: part of a VM's or its host's name, in any case. limit: None for all of them from offset on."""

    search: str = ""
    order: Order = Order.NAME
    offset: int = 0
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.offset < 0 or (self.limit is not None and self.limit < 1):
            raise BadInput("a page begins at 0 or later and has at least one row", subject=f"offset {self.offset}")


ALL = Page()


@dataclass(frozen=True, slots=True)
class Row:
    """wish: None for a VM that is not protected. vm: None for one that is not on its host now."""

    vm_id: str
    name: str
    host: str
    wish: ProtectionMessage | None
    vm: VmMessage | None


class Listing:
    """Every VM that is protected, or that hosts have: of one moment."""

    def __init__(
        self, wishes: Mapping[str, ProtectionMessage], view: FleetView, vms: Sequence[VmMessage] | None = None
    ) -> None:
        """vms: of the hosts' only these, where not all are asked for."""
        self.copies: dict[str, CopyReport] = {copy.vm_id: copy for copy in view.copies if copy.purpose == "test"}
        copied = {copy.copy_id for copy in self.copies.values()}
        # The same VM can be defined at both sites: what counts is where it is protected.
        vms = view.vms if vms is None else vms
        present = {vm.id: vm for vm in vms if vm.id not in wishes or vm.host == wishes[vm.id].host}
        self.rows: dict[str, Row] = {}
        for vm_id, wish in wishes.items():
            vm = present.get(vm_id)
            self.rows[vm_id] = Row(vm_id, vm.name if vm else wish.vm_name, wish.host, wish, vm)
        for vm_id, vm in present.items():
            if vm_id not in wishes and vm_id not in copied:
                self.rows[vm_id] = Row(vm_id, vm.name, vm.host, None, vm)


class Placed(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def host(self) -> str: ...


Item = TypeVar("Item", bound=Placed)


def paged(items: Sequence[Item], page: Page) -> tuple[list[Item], int]:
    """Those on this page, and how many there are on all pages."""
    wanted = page.search.casefold()
    found = [item for item in items if wanted in item.name.casefold() or wanted in item.host.casefold()]
    if page.order is Order.HOST:
        found.sort(key=lambda item: (item.host, item.name))
    else:
        found.sort(key=lambda item: (item.name, item.host))
    end = None if page.limit is None else page.offset + page.limit
    return found[page.offset : end], len(found)
