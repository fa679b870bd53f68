"""A UEFI variable store is read and written as the firmware does it."""

import struct

import pytest

from leeward.lab.domains import UEFI_STORE
from leeward.lab.guest.variables import added, bootable, variables

FIRST = 0x64
SIZE = 4096


@pytest.fixture
def blank():
    """Volume header, store header (only its size counts here), erased flash."""
    head = bytes(0x58) + struct.pack("<I", SIZE - 0x48) + bytes(FIRST - 0x5C)
    return head + b"\xff" * (SIZE + 1000 - FIRST)


def named(store):
    return {name: data for name, data, _ in variables(store)}


def test_what_was_added_is_there_and_nothing_else_moved(blank):
    store = added(added(blank, "One", b"12345"), "Second", b"")
    assert named(store) == {"One": b"12345", "Second": b""}
    assert len(store) == len(blank)
    assert store[:FIRST] == blank[:FIRST]
    assert set(store[SIZE:]) == {0xFF}
    assert all(after % 4 == 0 for _, _, after in variables(store))


def test_a_deleted_variable_does_not_count(blank):
    store = bytearray(added(blank, "Old", b"1"))
    store[FIRST + 2] = 0x3C  # VAR_DELETED
    assert named(bytes(store)) == {}
    again = added(bytes(store), "New", b"2")
    assert named(again) == {"New": b"2"}


def test_a_full_store_is_not_overrun(blank):
    with pytest.raises(ValueError, match="full"):
        added(blank, "Large", bytes(SIZE))


def test_the_boot_entry_names_program_and_arguments(blank):
    found = named(bootable(blank, "\\vmlinuz", "initrd=\\initrd quiet"))
    assert set(found) == {"Boot4C57", "BootOrder"}
    assert found["BootOrder"] == b"\x57\x4c"
    entry = found["Boot4C57"]
    attributes, paths = struct.unpack_from("<IH", entry)
    assert attributes == 1
    assert entry.endswith("initrd=\\initrd quiet\0".encode("utf-16-le"))
    assert "\\vmlinuz\0".encode("utf-16-le") in entry[6:][: -len("initrd=\\initrd quiet\0") * 2]
    assert paths == 4 + 2 * len("\\vmlinuz\0") + 4


@pytest.mark.skipif(not UEFI_STORE.exists(), reason="OVMF is not installed")
def test_ovmfs_own_store_takes_it():
    store = UEFI_STORE.read_bytes()
    assert named(store) == {}
    assert set(named(bootable(store, "\\vmlinuz", "quiet"))) == {"Boot4C57", "BootOrder"}
