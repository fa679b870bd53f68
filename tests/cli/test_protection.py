"""`leeward protect`, `status` and `points` as a script sees them, against a console with a VM in memory behind a real
socket: every key that docs/cli.md shows, what a choice costs, and values that cannot be used."""

import json
import re
import shutil
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.cli.by_socket import answer
from tests.console.world import VM

from leeward.agent.set_aside import move_aside, spool_of
from leeward.cli import protection
from leeward.domain.protection import ProtectionState

# Real time: not for the fast suite.
pytestmark = pytest.mark.slow

DOCS = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()


def documented(heading, number=0):
    """The JSON example below a heading of docs/cli.md."""
    section = DOCS.split(f"### {heading}\n", 1)[1].split("\n### ", 1)[0]
    return json.loads(re.findall(r"```json\n(.*?)```", section, re.DOTALL)[number])


def keys(document):
    """The names in a document, to the bottom; of lists those of their first."""
    if isinstance(document, dict):
        return {name: keys(value) for name, value in document.items()}
    if isinstance(document, list):
        return [keys(document[0])] if document else []
    return None


def under_way(status):
    return status if status["progress"] and status["progress"]["done"] else None


def test_status_says_in_each_state_all_that_is_documented(run, world):
    example = keys(documented("`leeward status [VM]`"))
    bare = answer(run("status", "web", "--json"))
    assert set(bare) == set(example)
    assert (bare["state"], bare["last_point"], bare["failover_possible"]) == ("disabled", None, False)
    assert bare["reason"]
    answer(run("protect", "web", "--rpo", "1s", "--bandwidth", "150k", "--json"))
    copied = world.wait(lambda: under_way(answer(run("status", "web", "--json"))))
    assert keys(copied["progress"]) == keys(documented("`leeward status [VM]`", 1))
    assert copied["progress"]["phase"] == "initial"
    assert 0 < copied["progress"]["done"] <= copied["progress"]["total"]
    assert (copied["state"], copied["failover_possible"]) == ("replicating", False)
    assert copied["reason"]
    answer(run("protect", "web", "--bandwidth", "0", "--warm", "--wait", "--json"))
    world.wait(lambda: (world.service.status("web")[0].replica or bare).state == "warm")
    shown = answer(run("status", "web", "--json"))
    assert keys(shown) == example
    assert (shown["state"], shown["rpo_target_s"]) == (ProtectionState.ENABLED, 1.0)
    assert 0 <= shown["rpo_actual_s"] < 60
    assert answer(run("status", "--json"))[0]["vm_id"] == shown["vm_id"]
    (event,) = [event for event in answer(run("events", "--json")) if '"rpo_s":1.0,' in event["detail"]][-1:]
    assert keys(event) == keys(documented("`leeward events`")[0])
    assert (event["what"], event["subject"]) == ("protect", "web")
    paused = answer(run("pause", "web", "--json"))
    assert set(paused) == set(example)
    world.wait(lambda: world.service.status("web")[0].state == ProtectionState.PAUSED)
    assert answer(run("status", "web", "--json"))["reason"]


@pytest.mark.parametrize(
    ("url", "rpo", "said"),
    [
        (
            "s3://office/leeward",
            "1s",
            "An RPO of 1.0 s costs about $158 a year in requests (list price, check yours).",
        ),
        ("azure://office/leeward", "5s", "costs about $41 a year"),
        ("s3://office/leeward", "24h", "costs about $1 a year"),
        ("file:///srv/vault", "1s", None),
    ],
)
def test_what_a_choice_of_rpo_costs_a_year_is_told_with_it(run, config, url, rpo, said):
    config.write_text(config.read_text() + f'[vault]\nurl = "{url}"\n')
    code, out, err = run("protect", "web", "--rpo", rpo, "--json")
    assert code == 0, err
    assert json.loads(out)["rpo_target_s"] == (
        86_400.0 if rpo == "24h" else float(rpo[:-1])
    )  # a script's document stays one
    assert said in err if said else "a year" not in err


def test_a_person_is_told_what_came_of_it_and_what_to_do_next(run):
    begun = run("protect", "web", "--rpo", "1s", "--bandwidth", "100k")
    assert begun[0] == 0, begun
    assert "leeward status --watch" in begun[1]
    assert run("protect", "web", "--bandwidth", "0", "--wait")[0] == 0
    assert "stay in the vault" in run("unprotect", "web")[1]
    code, out, err = run("protect", "web", "--rpo", "1s", "--wait")  # anew
    assert code == 0, err
    assert "web is protected: newest point" in out
    assert "(target 1.0 s)" in out
    assert "failover" in run("status", "web")[1].lower()
    table = run("points", "web")  # read from the vault itself, of which this machine knows nothing here
    assert (table[0], table[2].count("\n")) == (3, 1)


@pytest.mark.parametrize("words", [(), ("--wait",)])
def test_what_a_copy_will_lack_is_told_with_the_protection(run, world, words):
    assert "will lack" not in run("protect", "web", *words)[1]
    vm = world.vm(world.office)
    vm.facts = replace(vm.facts, lacks=("a host device passed through", "a shared folder"))
    world.wait(lambda: next(each for each in world.service.vms()[0] if each.id == VM).lacks)
    code, out, err = run("protect", "web", *words)
    assert code == 0, err
    assert "A copy of web will lack a host device passed through, a shared folder\n" in out
    assert "lack" not in "".join(run("protect", "web", *words, "--json")[1:])


def test_the_table_of_costs(run):
    shown = answer(run("vault", "cost", "--rpo", "1s", "--vms", "2", "--provider", "azure", "--json"))
    assert keys(shown) == keys(documented("`leeward vault cost`"))
    assert shown["dollars_a_year"] == 410.25
    assert "$316 a year" in run("vault", "cost", "--rpo", "5s", "--vms", "10")[1]
    assert run("vault", "cost", "--provider", "tape")[0] == 2


WRONG = [
    (("--rpo", "100ms"), "duration"),
    (("--rpo", "0"), "--rpo: from 1s to 1d, not 0s\n"),
    (("--rpo", "25h"), "--rpo: from 1s to 1d, not 25h\n"),
    (("--app-interval", "999999d"), "--app-interval: from 0s to 36600d, not 999999d\n"),
    (("--retain", "-1s"), "duration"),
    (("--bandwidth", "fast"), "size"),
    (("--bandwidth", "-1"), "size"),
    (("--bandwidth", "10"), "--bandwidth: at least 64KiB a second, not 10 bytes. Write it with its unit: 10M"),
    (("--bandwidth", "60k"), "--bandwidth: at least 64KiB a second"),
    (("--bandwidth", "9999999T"), "--bandwidth: from 0 to"),
    (("--group", "a b"), "--group: letters, digits, dots, dashes and underscores, 64 at most\n"),
    (("--group-every", "1s", "--group", "shop"), "--group-every: from 5s to 1d, not 1s\n"),
    (("--warm-host", "office"), "another host than"),
    (("--no-warm", "--warm-host", "recovery"), "exclude each other"),
]


def test_values_that_cannot_be_used_change_nothing(run, world):
    for words, said in WRONG:
        code, out, err = run("protect", "web", *words)
        assert code == 2, (words, out, err)
        assert said in err, words
        assert len(err.strip().splitlines()) == 1, err
        assert world.service.status("web")[0].state == ProtectionState.DISABLED


@pytest.mark.parametrize(("anew", "asked"), [(True, 4), (False, 2)])
def test_waiting_for_a_vm_that_is_protected_anew_is_for_a_point_of_after_the_order(monkeypatch, anew, asked):
    view = {"vm": "web", "state": "enabled", "reason": "", "progress": None}
    told = [
        {**view, "state": "replicating", "rpo_actual_s": None},
        {**view, "rpo_actual_s": 89.0},
        {**view, "rpo_actual_s": 89.2},
        {**view, "rpo_actual_s": 0.0},
    ]

    class Console:
        asked = 0

        def get(self, path, vm):
            self.asked += 1
            return [told[self.asked - 1]]

    monkeypatch.setattr(protection.time, "sleep", lambda seconds: None)
    console = Console()
    protection._wait_enabled(console, "id", quiet=True, after=time.monotonic() if anew else None)
    assert console.asked == asked


def test_points_that_were_set_aside_are_told_with_the_command_that_deletes_them(run, world, config):
    state = config.parent / "state"
    spool = spool_of(state, VM)
    spool.mkdir(parents=True)
    (spool / "part").write_bytes(bytes(3 << 20))
    told = "set aside"
    assert told not in run("status", "web")[1]
    aside = move_aside(spool)
    for words in (("status",), ("status", "web"), ("agent", "status")):
        line = run(*words)[1].splitlines()[-1]
        assert told in line
        assert "(3.0 MiB)" in line
        assert line.endswith(f"rm -r {aside}")
    (one,) = answer(run("agent", "status", "--json"))["set_aside"]
    assert (one["vm_id"], one["bytes"], one["folder"]) == (VM, 3 << 20, str(aside))
    shutil.rmtree(aside)
    assert told not in run("status")[1]


def test_a_point_that_is_there_before_the_order_is_answered_is_one_of_after_it(run, monkeypatch):
    """Else whoever waits, waits for the next one: here for an hour."""
    monkeypatch.setattr(protection, "_show_cost", lambda rpo_s: time.sleep(2))
    pauses = iter([time.sleep] * 25)  # five seconds; then an error ends the wait
    clock = SimpleNamespace(monotonic=time.monotonic, sleep=lambda seconds: next(pauses)(seconds))
    monkeypatch.setattr(protection, "time", clock)
    code, out, err = run("protect", "web", "--rpo", "1h", "--wait")
    assert code == 0, err
    assert "web is protected: newest point" in out
