"""What the firmware keeps goes with the points: stored when it changes, found again through maps, small."""

import random

import pytest
from tests.vault.conftest import VM

from leeward.domain.vm import FirmwareState
from leeward.vault import keyspace
from leeward.vault.firmware import firmware_info, firmware_of
from leeward.vault.history import History

# A variable store: some KB of variables, the rest erased flash.
STORE = random.Random(1).randbytes(6000).ljust(540_672, b"\xff")
TPM = (("tpm2-00.permall", random.Random(2).randbytes(6101)),)
STATE = FirmwareState(STORE, TPM)


@pytest.fixture
def pen(pen):
    pen.resize("vda", 4)
    return pen


def size(pen, point):
    return pen.vault.store.size(keyspace.log(VM, int(point.id)))


def test_it_is_stored_when_it_changes_and_only_then(pen):
    plain = pen.commit()
    pen.firmware = STATE
    first, second = pen.commit(), pen.commit()
    assert size(pen, first) - size(pen, plain) < 20_000
    assert size(pen, second) - size(pen, plain) < 200
    pen.firmware = FirmwareState(STORE[:-1] + b"x", TPM)
    pen.commit()
    pen.firmware = FirmwareState()
    pen.commit()
    pen.check_all()


def test_a_change_of_it_alone_makes_a_point(pen):
    pen.commit()
    assert pen.commit(keep_empty=False) is None
    pen.firmware = STATE
    assert pen.commit(keep_empty=False) is not None
    assert pen.commit(keep_empty=False) is None
    pen.check_all()


def test_what_is_not_known_now_stays_as_it_was(pen):
    pen.firmware = STATE
    pen.commit()
    pen.firmware = None
    assert pen.commit(keep_empty=False) is None
    pen.commit()
    assert pen.firmwares["3"] == STATE
    pen.check_all()


def test_maps_carry_it(pen):
    pen.firmware = STATE
    pen.commit()
    pen.writer.write_map()
    pen.firmware = None
    pen.commit()
    # Without the commit that brought it, only the map can tell.
    history = History(pen.vault._reader, VM)
    assert history.checkpoint(pen.writer.state.seq - 1).state.firmware == STATE
    pen.reopen(expect_epoch=pen.writer.state.epoch)
    assert pen.writer.state.firmware == STATE
    pen.check_all()


def test_a_vm_without_any_is_written_as_before_there_was_a_word_for_it(pen):
    """So vaults of older versions are read: their objects are just these."""
    pen.firmware = FirmwareState()
    point = pen.commit()
    pen.writer.write_map()
    reader = pen.vault._reader
    for key in (keyspace.log(VM, int(point.id)), keyspace.map_(VM, pen.writer.state.seq)):
        assert "firmware" not in reader.meta(reader.open(key)).info
    assert firmware_of(None) == FirmwareState()


@pytest.mark.parametrize("state", [FirmwareState(), STATE, FirmwareState(b"", TPM), FirmwareState(STORE)])
def test_what_is_packed_is_unpacked_again(state):
    assert firmware_of(firmware_info(state)) == state
