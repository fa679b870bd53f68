"""Which VMs there are, in what order, and a page of them: looked through without showing each. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from operator import attrgetter
from typing import NamedTuple, Protocol, TypeVar

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


class Row(NamedTuple):
    """wish: None for a VM that is not protected. vm: None for one that is not on its host now."""

    vm_id: str
    name: str
    host: str
    wish: ProtectionMessage | None
    vm: VmMessage | None


class Placed(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def host(self) -> str: ...


Item = TypeVar("Item", bound=Placed)


class Listing:
    """Every VM that is protected, or that hosts have: of one moment."""

    def __init__(
        self, wishes: Mapping[str, ProtectionMessage], vms: Sequence[VmMessage], copies: Sequence[CopyReport]
    ) -> None:
        """vms: of all hosts. copies: of tests."""
        self.wishes, self._vms = wishes, vms
        self.copies = {copy.vm_id: copy for copy in copies}
        self.copies_by_id = {copy.copy_id: copy for copy in copies}
        # The same VM can be defined at both sites: what counts is where it is protected.
        present = {vm.id: vm for vm in vms if vm.id not in wishes or vm.host == wishes[vm.id].host}
        self.rows: dict[str, Row] = {}
        for vm_id, wish in wishes.items():
            vm = present.get(vm_id)
            self.rows[vm_id] = Row(vm_id, vm.name if vm else wish.vm_name, wish.host, wish, vm)
        for vm_id, vm in present.items():
            if vm_id not in wishes and vm_id not in self.copies_by_id:
                self.rows[vm_id] = Row(vm_id, vm.name, vm.host, None, vm)
        self._rows: dict[Order, list[Row]] = {}
        self._sorted: dict[Order, list[VmMessage]] = {}

    def page(self, page: Page) -> tuple[list[Row], int]:
        """Those on this page, and how many there are on all pages."""
        if page.order not in self._rows:
            self._rows[page.order] = _sorted(self.rows.values(), page.order)
        return _cut(self._rows[page.order], page)

    def vms(self, page: Page) -> tuple[list[VmMessage], int]:
        """The same of what hosts have, test copies too."""
        if page.order not in self._sorted:
            self._sorted[page.order] = _sorted(self._vms, page.order)
        return _cut(self._sorted[page.order], page)

    @cached_property
    def names(self) -> dict[str, str]:
        """VM id → what it is called on its host, or was when it was protected if it is on none."""
        return {wish.vm_id: wish.vm_name for wish in self.wishes.values()} | {vm.id: vm.name for vm in self._vms}

    @cached_property
    def ids(self) -> dict[str, list[str]]:
        """Name → ids of the VMs that are called so."""
        found: dict[str, list[str]] = {}
        for vm_id, name in self.names.items():
            found.setdefault(name, []).append(vm_id)
        return found


def _sorted(items: Iterable[Item], order: Order) -> list[Item]:
    by = ("host", "name") if order is Order.HOST else ("name", "host")
    return sorted(items, key=attrgetter(*by))


def _cut(items: Sequence[Item], page: Page) -> tuple[list[Item], int]:
    wanted = page.search.casefold()
    found = items
    if wanted:
        found = [item for item in items if wanted in item.name.casefold() or wanted in item.host.casefold()]
    end = None if page.limit is None else page.offset + page.limit
    return list(found[page.offset : end]), len(found)
