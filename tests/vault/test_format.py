"""FORMAT.md says what the code does."""

import re
from pathlib import Path

from leeward.vault import format as layout

TEXT = (Path(layout.__file__).parent / "FORMAT.md").read_text()


def test_the_offset_table_is_the_structs():
    rows = re.findall(r"^\| (\d+) \| (\d+) \| ", TEXT, re.MULTILINE)
    at = 0
    for offset, size in rows:
        assert int(offset) == at
        at += int(size)
    assert at == layout.FIXED_SIZE
    assert re.search(rf"^\| {layout.FIXED_SIZE} \| {layout.FRAME_DTYPE.itemsize} × f \|", TEXT, re.MULTILINE)


def test_the_kinds_are_listed():
    for kind in layout.Kind:
        assert f"{kind.value} {kind.name}" in TEXT
