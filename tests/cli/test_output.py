"""What people read."""

import io
import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from leeward.cli import output
from leeward.cli.output import (
    Plain,
    audit_table,
    events_table,
    hosts_table,
    live_table,
    points_table,
    replica_text,
    run_line,
    run_table,
    runs_table,
    vms_table,
)
from leeward.cli.units import show_time


@pytest.mark.parametrize(
    ("state", "more", "said"),
    [
        ("copying", {"fraction": 0.421}, "replica at recovery: copying 42 %"),
        ("warm", {"lag_s": 0.0}, "warm at recovery"),
        ("warm", {"lag_s": 3.0}, "warm at recovery, 3.0 s behind"),
        ("behind", {"lag_s": 70.0, "reason": "no room"}, "replica at recovery, 70 s behind: no room"),
        ("taken", {}, "the replica at recovery is in use by a failover"),
        ("error", {"reason": "no room"}, "no replica at recovery: no room"),
        ("unknown", {"reason": "not told"}, "replica at recovery: not told"),
    ],
)
def test_a_replica_in_words(state, more, said):
    replica = {"host": "recovery", "lag_s": None, "state": state, "reason": "", "fraction": 0.0, **more}
    text = replica_text(replica)
    for mark in ("[yellow]", "[red]", "[/]"):
        text = text.replace(mark, "")
    assert text == said


def shown(what, width=80):
    console = Plain(file=io.StringIO(), width=width)
    console.print(what)
    return console.file.getvalue().splitlines()


def test_each_recovery_point_is_one_line_of_an_ordinary_terminal():
    disks = [{"name": "vda", "size": 40 << 30}, {"name": "vdb", "size": 2000 << 30}]
    point = {"id": "12345", "time": "2026-11-26T13:17:42.583123Z", "consistency": "crash", "bytes": 11102}
    head, line = shown(points_table([{**point, "disks": disks, "mark": None}]))
    told = [part.strip() for part in line.split("  ") if part.strip()]
    assert told == ["12345", "2026-11-26 13:17:42.583", "crash", "vda, vdb · 2.0 TiB", "10.8 KiB"]
    assert "GROUP" not in head
    head, _ = shown(points_table([{**point, "disks": disks, "mark": {"group": "shop"}}]), 120)
    assert "GROUP" in head


THEN = show_time("2026-11-27T10:39:22Z")
URI = "qemu+unix:///system?socket=/var/lib/leeward-lab/office/libvirt/libvirt-sock"


def test_a_hosts_address_is_never_broken_where_a_line_has_room_for_it():
    host = {"name": "office", "site": "source", "uri": URI, "reachable": True, "error": "", "vms": 3, "trouble": ""}
    gone = {**host, "name": "north", "uri": "qemu:///system", "reachable": False, "error": "no route to host"}
    for width in (80, 120):
        lines = shown(hosts_table([host, gone]), width)
        assert [line for line in lines if URI in line], lines
        assert any(line.strip() == "● no route to host" for line in lines)
        assert all(line.split()[0] != "●" or line.startswith("  ") for line in lines)
    assert shown(hosts_table([host]), 120)[0].split() == ["HOST", "SITE", "VMS", "STATE", "ADDRESS"]
    assert "ADDRESS" not in shown(hosts_table([host]), 80)[0]


def an_entry(**more):
    entry = {"id": 4711, "time": "2026-11-27T10:39:22Z", "who": "anna, token nightly check", "address": "2001:db8::7"}
    entry |= {"what": "start failover", "subject": "webserver", "outcome": "refused", "status": 403}
    return {**entry, "detail": "this needs the role operator; you are a viewer", **more}


def test_times_names_and_numbers_of_the_audit_log_are_in_one_piece():
    for width in (80, 120, 200):
        told = shown(audit_table([an_entry(), an_entry(id=1, who="local", detail="", outcome="done")]), width)
        assert sum(THEN in line for line in told) == 2
        assert sum("refused" in line for line in told) == 1
        assert any("this needs the role operator; you are a viewer" in line for line in told)
        assert all(len(line) <= width for line in told)


def test_an_event_tells_a_policy_in_words():
    policy = {"rpo_s": 1.0, "retain_s": 86400.0, "hourly_s": 0.0, "app_interval_s": 3600.0, "bandwidth": 0}
    policy |= {"warm": "recovery", "group": "", "group_s": 60.0}
    event = {"time": "2026-11-27T10:39:22Z", "what": "protect", "subject": "web", "who": "anna"}
    rows = [{**event, "detail": json.dumps(policy)}, {**event, "what": "finish begun", "detail": "odd [detail]"}]
    for width in (60, 80, 120):
        told = shown(events_table(rows), width)
        assert sum(THEN in line for line in told) == 2
        assert any("rpo 1s, retain 1d, app-interval 1h, warm recovery" in line for line in told), told
        assert any("odd [detail]" in line for line in told)
        assert any("commit begun" in line for line in told)


def a_run(**more):
    run = {"id": "dc680b9dcd73", "vm": "web", "state": "done", "by": "anna", "rto_s": None, "failure": ""}
    return {**run, "kind": "planned", "created": "2026-11-27T10:39:22Z", "point": "latest", **more}


def test_a_commit_of_either_move_is_called_one_and_has_no_point():
    told = shown(runs_table([a_run(kind=kind) for kind in ("finish", "commit", "test")]))
    assert [line.split()[2] for line in told[1:]] == ["commit", "commit", "test"]
    assert ["latest" in line for line in told[1:]] == [False, False, True]


def test_a_run_is_told_in_a_narrow_terminal_with_its_time_in_one_piece():
    long = a_run(vm="webserver-01", kind="unplanned-failback", state="undoing", failure="no answer", rto_s=9)
    for width in (80, 120):
        told = shown(runs_table([a_run(), long]), width)
        assert sum(THEN in line for line in told) == 2
        assert told[-1].rstrip() == "  no answer"
        assert ("RUN" in told[0]) is (width == 120)
        assert all(len(line) <= width for line in told)


RPO = ("rpo_target_s", "rpo_actual_s")


def a_vm(**more):
    now = datetime.now(UTC).isoformat()
    return {
        "vm": "web",
        "host": "office",
        "state": "enabled",
        "reason": "",
        "progress": None,
        "rpo_target_s": 5.0,
        "rpo_actual_s": 0.4,
        "last_point": {"id": "804", "time": now},
        "failover_possible": True,
        "phase": "home",
        "home": "office",
        "away": "",
        "test_failover": None,
        "replica": None,
        **more,
    }


def test_what_is_to_be_said_of_a_vm_stands_below_its_line():
    reason = "retrying: the vault cannot be reached now: connection refused, it is tried again by itself, see [vault]"
    made = io.StringIO()
    old = (datetime.now(UTC) - timedelta(days=3)).isoformat()
    vms = [
        a_vm(reason=reason),
        a_vm(vm="database", state="error", reason="the host is gone", last_point={"id": "7", "time": old}),
        a_vm(vm="plain"),
        a_vm(
            vm="off", state="disabled", reason="not protected", rpo_target_s=None, rpo_actual_s=None, last_point=None
        ),
    ]
    output.Plain(file=made, width=80).print(output.status_table(vms))
    lines = made.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    head, web, first, more, database, gone, plain, off = lines
    assert head.split()[-1] == "FAILOVER"
    assert re.fullmatch(r"web +office +● Enabled +0.4 s +5.0 s +804 · \d\d:\d\d:\d\d +possible *", web)
    assert " ".join((first + more).split()) == reason
    assert first.startswith("  retrying")
    assert re.search(r"7 · \d{4}-\d\d-\d\d \d\d:\d\d +possible", database)
    assert gone.strip() == "the host is gone"
    assert plain.index("possible") == web.index("possible") == head.index("FAILOVER")
    assert off.split() == ["off", "office", "●", "Disabled", "–", "–", "–", "–"]


@pytest.mark.parametrize(("quiet", "text"), [(False, "step 2\n"), (True, "")])
def test_a_table_that_is_followed_ends_with_its_line_also_in_a_pipe(monkeypatch, quiet, text):
    monkeypatch.setattr(output, "err", Console(file=io.StringIO(), width=80))
    with live_table(quiet=quiet) as live:
        for step in () if quiet else ("step 1", "step 2"):
            live.update(step, refresh=True)
    assert output.err.file.getvalue() == text


@pytest.mark.parametrize("told", ["09:F4:AB:12 of :vs:", "web[old]", "see [vault] and [link=x]", "[/]", "a[b"])
def test_what_looks_like_an_emoji_or_a_style_is_told_as_it_is(capsys, told):
    made = output.table("VM")
    made.add_row(told)
    for console in (output.out, output.err):
        console.print(f"[bold]{told}[/]")
        console.print(made)
    assert [text.count(told) >= 2 for text in capsys.readouterr()] == [True, True]


def test_a_host_that_cannot_use_the_vaults_place_says_why():
    host = {"name": "office", "site": "source", "vms": 1, "reachable": True, "error": "", "uri": "x"}
    shown = {}
    for trouble in ("", "it cannot use the vault's place: no [credentials]"):
        console = Console(width=200)
        with console.capture() as captured:
            console.print(hosts_table([{**host, "trouble": trouble}]))
        shown[trouble] = captured.get()
    for trouble, text in shown.items():
        assert "Reachable" in text
        assert trouble in text
    assert "cannot" not in shown[""]


def a_step(name, state, detail=""):
    return {"name": name, "tells": name, "state": state, "started": None, "seconds": None, "detail": detail}


@pytest.mark.parametrize(("state", "said"), [("undone", "not done"), ("running", "")])
def test_what_a_run_that_is_over_has_left_out_is_told(state, said):
    steps = [a_step("stop", "done", "off"), a_step("start", "waiting")]
    lines = shown(run_table({"state": state, "steps": steps, "undo": []}))
    assert lines[1].split() == ["○", "start", *said.split()]
    assert "not done" not in lines[0]


def test_a_run_tells_how_it_stands_and_when_it_was():
    view = {"state": "stalled", "failure": "no room", "created": "2026-11-26T13:00:00Z", "by": "anna", "ended": None}
    (line,) = shown(run_line(view), 200)
    assert line.startswith("stalled: no room · begun 2026-11-2")
    assert line.endswith(" by anna")
    ended = {**view, "state": "undone", "ended": "2026-11-26T13:05:00Z"}
    (line,) = shown(run_line(ended), 200)
    assert line.startswith("taken back: ")
    assert re.search(r"by anna, ended 2026-11-2. ..:05:00$", line)


def test_what_a_copy_will_lack_is_told_before_there_is_one():
    vm = {"name": "db", "host": "office", "power": "running", "vcpus": 1, "memory_mib": 512, "disks": []}
    vm |= {"protected": True, "unsupported": "", "lacks": ["a host device passed through", "a shared folder"]}
    assert "a copy will lack a host device passed through, a shared folder" in "\n".join(shown(vms_table([vm]), 160))
    assert "lack" not in "\n".join(shown(vms_table([vm | {"lacks": []}]), 160))
    del vm["lacks"]  # as a console of before tells of it
    assert "lack" not in "\n".join(shown(vms_table([vm]), 160))
