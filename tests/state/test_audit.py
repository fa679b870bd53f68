"""The audit log: what was begun, and how it ended."""

import pytest

from leeward.state.audit import AuditLog


@pytest.fixture
def log(database):
    return AuditLog(database)


def test_newest_first_in_pages(log):
    numbers = [log.add(who="anna", address="::1", what=f"w{n}", subject="web") for n in range(5)]
    assert [entry["what"] for entry in log.entries(2)] == ["w4", "w3"]
    assert [entry["what"] for entry in log.entries(2, before=numbers[3])] == ["w2", "w1"]


def test_what_is_begun_ends_once(log):
    number = log.add(who="anna", address="::1", what="protect", subject="web")
    assert (log.entries(1)[0]["outcome"], log.entries(1)[0]["status"]) == ("begun", 0)
    log.end(number, outcome="refused", status=409, subject="web", detail="why")
    log.end(number, outcome="done", status=200, subject="other", detail="")
    (entry,) = log.entries(10)
    assert (entry["outcome"], entry["status"], entry["subject"], entry["detail"]) == ("refused", 409, "web", "why")


def test_any_text_fits(log):
    log.add(
        who="w" * 999, address="a" * 999, what="x" * 999, subject="s\0" * 999, outcome="refused", detail="d" * 9999
    )
    (entry,) = log.entries(10)
    assert len(entry["detail"]) == 1000
