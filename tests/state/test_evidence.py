import pytest

from leeward.domain.errors import NotFound
from leeward.domain.evidence import KEPT
from leeward.state.evidence import Kept


def test_pictures_are_kept_and_the_oldest_go(database):
    book = database.evidence
    for number in range(KEPT + 2):
        book.keep(f"r{number}", "v1", 1000.0 + number, b"png %d" % number, "")
    book.keep("other", "v2", 1.0, b"", "the VM has no screen")
    assert book.picture("r11") == b"png 11"
    found = book.of(["r0", "r1", "r2", "r11", "other", "nothing"])
    assert found == {"r2": Kept(5, ""), "r11": Kept(6, ""), "other": Kept(0, "the VM has no screen")}
    for gone in ("r1", "other", "nothing"):
        with pytest.raises(NotFound):
            book.picture(gone)


def test_keeping_twice_is_keeping_once(database):
    for _ in range(2):
        database.evidence.keep("r1", "v1", 1000.0, b"png", "")
    database.evidence.keep("r1", "v1", 1000.0, b"", "gone")
    assert database.evidence.of(["r1"]) == {"r1": Kept(0, "gone")}
