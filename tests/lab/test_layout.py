import struct
from pathlib import Path

import pytest

from leeward.domain.errors import BadInput
from leeward.lab.guest import layout
from leeward.lab.guest.layout import Settings


def test_the_settings_block_is_shell_text_padded_with_zeros() -> None:
    block = Settings("web", "10.77.0.10/24", "10.77.0.1", 5, agent=False).block()
    assert len(block) == layout.SETTINGS_SIZE
    lines = block.rstrip(b"\0").decode().splitlines()
    assert lines == [
        "NAME='web'",
        "ADDRESS='10.77.0.10/24'",
        "GATEWAY='10.77.0.1'",
        "INTERVAL_MS='5'",
        "AGENT='0'",
        "ACPI='1'",
    ]


@pytest.mark.parametrize("name", ["a'b", "a b", "$(reboot)", "ä", "a\nb"])
def test_settings_that_a_shell_could_misread_are_refused(name: str) -> None:
    with pytest.raises(BadInput, match="name"):
        Settings(name).block()


def test_the_boot_record_names_two_partitions_that_do_not_overlap() -> None:
    record = layout.master_boot_record(b"\xeb" * 500, 47 << 20)
    assert len(record) == 512
    assert record.endswith(b"\x55\xaa")
    (active, kind1, start1, size1), (_, kind2, start2, size2) = (
        (flag, kind, start, size)
        for flag, kind, start, size in (struct.unpack_from("<B3xB3xII", record, 446 + 16 * i) for i in range(2))
    )
    assert (active, kind1, kind2) == (0x80, 0x0E, 0x83)
    assert start1 * 512 == layout.BOOT_OFFSET >= layout.SETTINGS_OFFSET + layout.SETTINGS_SIZE
    assert start1 + size1 == start2
    assert start2 * 512 == layout.ROOT_OFFSET
    assert size2 * 512 == 47 << 20


def test_settings_are_written_in_place(tmp_path: Path) -> None:
    raw = tmp_path / "disk"
    raw.write_bytes(b"\xff" * 16384)
    layout.write_settings(raw, Settings("x"))
    data = raw.read_bytes()
    assert data[:4096] == b"\xff" * 4096 == data[8192:12288]
    assert data[4096:].startswith(b"NAME='x'\n")
