"""A copy's point is kept from being pruned for as long as the copy may need it."""

import pytest
from tests.vault.conftest import CHEAP, VM
from tests.vault.pen import Pen

from leeward.domain.errors import StoreFull, StoreReadOnly
from leeward.recovery.nursing import Nurse
from leeward.recovery.records import CopyRecord, CopyRecords
from leeward.vault.facade import Vault
from leeward.vault.stores.memory import MemoryStore


class Store(MemoryStore):
    trouble = None

    def put(self, key, parts):
        if self.trouble:
            raise self.trouble
        super().put(key, parts)


@pytest.fixture
def vault():
    made = Vault.create(Store(), "x", cost=CHEAP)[0]
    pen = Pen(made, VM)
    pen.resize("vda", 1)
    pen.put("vda", 0, b"\1" * 65536).commit()
    return made


@pytest.fixture
def nurse(vault, tmp_path):
    """No host: it looks after pins only."""
    return Nurse(None, CopyRecords(tmp_path), vault, rpo_s=lambda vm_id: None, may_run=lambda vm_id: True)


@pytest.mark.parametrize("trouble", [StoreFull("it is full"), StoreReadOnly("it is read-only")])
def test_a_pin_that_could_not_be_had_is_had_later(vault, nurse, trouble):
    record = CopyRecord(VM, "web", "test", "2", "tag", "web-test", "recovery")
    vault.store.trouble = trouble
    nurse.pin(record)
    record.step("pin").state = "done"
    nurse.look_after(record)
    assert vault.pins(VM) == []
    vault.store.trouble = None
    nurse.look_after(record)
    assert [pin.point_id for pin in vault.pins(VM)] == ["2"]
    nurse.look_after(record)  # and is not renewed all the time
    assert [pin.name for pin in vault.pins(VM)] == [record.pin]


def test_a_copy_that_is_only_being_made_has_none_put_behind_its_back(vault, nurse):
    nurse.look_after(CopyRecord(VM, "web", "test", "2", "tag", "web-test", "recovery"))
    assert vault.pins(VM) == []
