"""What people see of evidence and drills: tables with words for every state."""

import io

import pytest
from rich.console import Console

from leeward.cli import drills, evidence
from leeward.domain.errors import BadInput


def shown(table):
    out = Console(file=io.StringIO(), width=200)
    out.print(table)
    return out.file.getvalue()


TEST = {
    "time": "2026-11-24T04:29:12.371184Z",
    "point": "24",
    "rto_s": 12.4,
    "rpo_s": None,
    "rpo_target_s": 5.0,
    "checks": [
        {"what": "agent", "passed": True, "detail": ""},
        {"what": "tcp 5432", "passed": False, "detail": ""},
    ],
    "picture_bytes": 0,
    "no_picture": "the VM has no screen",
    "outcome": "failed",
}


def test_the_table_of_tests():
    text = shown(evidence._table([TEST, {**TEST, "outcome": "passed", "checks": [], "picture_bytes": 5}]))
    for said in ("agent ✓, tcp 5432 ✗", "12 s", "the VM has no screen", "failed", "passed", "yes"):
        assert said in text, said


DRILL = {
    "plan": "",
    "vm": "web",
    "vm_id": "v",
    "vm_ids": ["v"],
    "every_s": 30 * 86_400.0,
    "mode": "run",
    "window": "22:00-04:00",
    "keep_s": 600.0,
    "last_good": None,
    "next_due": "2026-12-24T04:29:33.102332Z",
    "overdue": True,
    "last_drill": "2026-11-24T04:29:12.371184Z",
    "last_outcome": "failed",
    "last_run": "b1",
}


def test_the_table_of_drills():
    text = shown(drills._table([DRILL]))
    for said in ("30 d", "runs by itself", "22:00-04:00", "never", "now", "failed"):
        assert said in text, said
    text = shown(drills._table([{**DRILL, "mode": "warn", "window": "", "overdue": False, "last_drill": None}]))
    for said in ("only tells", "any time", "2026-12-24", "–"):
        assert said in text, said
    assert "plan shop" in shown(drills._table([{**DRILL, "plan": "shop", "vm": "", "vm_id": ""}]))


def test_how_often_or_never():
    for words in ({"every": None, "never": False}, {"every": "30d", "never": True}):
        with pytest.raises(BadInput):
            drills.set_("web", by_itself=False, window="", keep="10m", as_json=False, **words)


@pytest.mark.parametrize(("vm", "plan"), [(None, None), ("web", "shop")])
def test_a_vm_or_a_plan(vm, plan):
    with pytest.raises(BadInput, match="which VM, or which plan"):
        drills.set_(vm, plan, "30d", never=False)
