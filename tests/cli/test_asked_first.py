"""What a person at a terminal is asked before VMs are moved: with what is lost by it, and never in vain."""

import io
import json
import re
import sys
import time

import pytest
from tests.cli.conftest import Terminal
from tests.console.world import VM

from leeward.console.views import ProtectRequest
from leeward.domain.errors import NotFound
from leeward.domain.lifecycle import Phase
from leeward.domain.vm import Consistency

# Real time: not for the fast suite.
pytestmark = pytest.mark.slow


@pytest.fixture
def run(run, monkeypatch):
    """run("failover", …, answer="n") at a terminal where that is typed; at none with answer=None."""

    def at_terminal(*words, answer="n"):
        monkeypatch.setattr(sys, "stdin", io.StringIO() if answer is None else Terminal(answer + "\n"))
        return run(*words)

    return at_terminal


def points(world):
    return world.vault.log(VM).points()


@pytest.fixture
def several(world):
    """A VM with an application-consistent point that is seconds old, and newer points."""
    world.service.protect("web", ProtectRequest(rpo_s=1, app_interval_s=3600))
    world.wait(lambda: [p for p in points(world) if p.consistency is Consistency.APP])
    world.wait(lambda: points(world)[-1].time_ns - app_point(world).time_ns > 2.5e9 or world.write(world.office))
    return world


def app_point(world):
    return [p for p in points(world) if p.consistency is Consistency.APP][-1]


def test_the_question_tells_what_is_lost_by_the_point_that_was_chosen(run, several):
    oldest, app = points(several)[0], app_point(several)
    for wanted, chosen in ((oldest.id, oldest), ("app", app)):
        code, out, err = run("failover", "unplanned", "web", "--point", wanted)
        assert (code, out) == (1, ""), err
        assert f"It is started from: {chosen.id} of " in err
        lost = re.search(rf"from point {chosen.id}; its last ([0-9.]+) s are lost. Go on\?", err)
        assert lost, err
        age = time.time() - chosen.time_ns / 1e9
        assert age - 2 < float(lost[1]) < age + 0.6
        assert ("application-consistent" in err) is (chosen.consistency is Consistency.APP)
    assert several.phase() is Phase.HOME


def test_while_home_answers_it_is_told_that_nothing_need_be_lost(run, several):
    told = "office answers: `leeward failover planned web` would lose nothing"
    assert told in run("failover", "unplanned", "web")[2]
    several.office.stop_agent()
    code, _, err = run("failover", "unplanned", "web")
    assert code == 1
    assert "Go on?" in err
    assert told not in err
    several.office.start_agent()


@pytest.mark.parametrize("words", [("planned", "web"), ("unplanned", "web")])
def test_whoever_wants_json_is_asked_as_well(run, several, words):
    code, out, err = run("failover", *words, "--json")
    assert json.loads(out)["error"]["code"] == "declined"
    assert (code, json.loads(out)["error"]["exit_code"]) == (1, 1)
    assert "Go on?" in err
    assert several.phase() is Phase.HOME
    code, out, err = run("failover", *words, "--json", answer=None)
    assert (code, json.loads(out)["state"]) == (0, "done"), err
    assert "Go on?" not in err


def test_no_means_that_nothing_was_done_and_yes_that_it_begins(run, several):
    code, out, err = run("failover", "planned", "web", answer="no")
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].endswith("Nothing was done")
    assert "Interrupted" not in err
    code, out, err = run("failover", "planned", "web", answer="perhaps\ny")
    assert code == 0, err
    assert err.count("Go on?") == 2
    assert "web runs at recovery" in out


def test_what_is_refused_is_refused_before_the_question(run, several):
    assert run("failover", "unplanned", "web", "--point", "4711")[0] == 3
    for host, code in (("office", 2), ("moon", 3)):
        assert run("failover", "unplanned", "web", "--to", host)[0] == code
    assert run("failover", "failback", "web")[0] == 4
    assert run("failover", "failback", "web", "--unplanned")[0] == 4
    assert run("failover", "planned", "web", "--network", "x")[0] == 2
    assert run("failover", "planned", "web", "--yes", answer="")[0] == 0
    for words in (("planned", "web"), ("unplanned", "web"), ("failback", "web")):
        code, _, err = run("failover", *words)
        assert code == 4
        assert "that is not committed yet" in err
        assert "Go on?" not in err


@pytest.mark.parametrize("words", [("planned", "web"), ("unplanned", "web")])
def test_a_host_that_is_not_there_is_refused_before_the_question(run, several, words):
    for host, code, said in (("moon", 3, "Known hosts: office, recovery"), ("office", 2, "it runs there already")):
        refused, out, err = run("failover", *words, "--to", host)
        assert (refused, out) == (code, ""), err
        assert said in err
        assert "Go on?" not in err
    assert "Go on?" in run("failover", *words, "--to", "recovery")[2]


@pytest.mark.parametrize("words", [("planned", "web"), ("unplanned", "web")])
def test_nobody_is_asked_where_there_is_no_recovery_host_at_all(run, several, monkeypatch, words):
    def none():
        raise NotFound("no recovery host is known")

    office = [host for host in several.service.hosts() if host.name == "office"]
    monkeypatch.setattr(several.service, "hosts", lambda: office)
    monkeypatch.setattr(several.failovers, "_away", none)
    code, out, err = run("failover", *words)
    assert (code, out) == (3, ""), err
    assert "no recovery host is known" in err
    assert "Go on?" not in err


@pytest.mark.parametrize("more", [(), ("--unplanned",)])
def test_so_it_is_on_the_way_home(run, several, more):
    assert run("failover", "planned", "web", "--yes")[0] == 0
    assert run("failover", "commit", "web")[0] == 0
    several.wait(lambda: several.service.status("web")[0].state == "enabled")
    for host, code in (("moon", 3), ("recovery", 2)):
        for answer in ("n", None):  # with nobody to ask it is the console that refuses
            refused, out, err = run("failover", "failback", "web", "--to", host, *more, answer=answer)
            assert (refused, out) == (code, ""), err
            assert "Go on?" not in err
    assert "Go on?" in run("failover", "failback", "web", "--to", "office", *more)[2]


@pytest.fixture
def older(app):
    """The console of before it could tell what an unplanned move loses."""
    known = len(app.router.routes)
    app.router.routes = [route for route in app.router.routes if not getattr(route, "path", "").endswith("/loss")]
    assert len(app.router.routes) == known - 1


def test_a_console_of_before_cannot_tell_what_is_lost_and_is_asked_all_the_same(older, run, several):
    code, _, err = run("failover", "unplanned", "web", "--point", "app")
    assert code == 1
    assert "Newest recovery point: " in err
    assert "web is started at the recovery site from its newest application-consistent point; all that came" in err
    assert run("failover", "unplanned", "web", "--to", "moon")[0] == 3
    assert run("failover", "unplanned", "nobody")[0] == 3
    # Nor does this one know of plans: there is nothing that could be done without them.
    code, _, err = run("plan", "list")
    assert (code, "older than this command" in err) == (3, True), err
    assert run("failover", "unplanned", "web", answer="y")[0] == 0
    assert several.phase() is Phase.AWAY


def test_going_home_from_a_dead_site_tells_what_is_lost_too(run, several):
    assert run("failover", "planned", "web", "--yes")[0] == 0
    assert run("failover", "commit", "web")[0] == 0
    several.wait(lambda: several.service.status("web")[0].state == "enabled")
    code, _, err = run("failover", "failback", "web", "--unplanned", "--point", "app")
    assert code == 1
    assert "recovery answers: `leeward failover failback web` would lose nothing" in err
    assert f"web is started at home from point {app_point(several).id}; its last " in err


def test_of_a_vm_that_is_home_again_is_told_what_is_left(run, several):
    for words in (("planned", "web"), ("commit", "web"), ("failback", "web"), ("commit", "web")):
        several.wait(lambda: several.service.status("web")[0].state == "enabled")
        code, out, err = run("failover", *words, answer="y")
        assert code == 0, err
    # Not the vault nor a warm replica, which stay where they are.
    told = "web is home; its copy at recovery is removed, and its recovery points stay in the vault"
    assert told in " ".join(out.split())


@pytest.mark.parametrize("wanted", ["app", "id", "latest"])
def test_a_failover_tells_which_point_it_takes_and_not_that_every_one_is_the_newest(run, several, wanted):
    said = {"app": "newest application-consistent point: ", "id": "the point that was asked for: "}
    point = points(several)[0].id if wanted == "id" else wanted
    app = app_point(several).id  # there will be newer ones, of the recovery site
    assert run("failover", "unplanned", "web", "--point", point, "--yes")[0] == 0
    (check,) = [s for s in several.service.last_run("web").steps if s.name == "check"]
    assert check.detail.startswith(said.get(wanted, "newest usable point: "))
    if wanted == "app":
        assert check.detail.endswith(f": {app}")


@pytest.mark.parametrize("kind", ["planned", "unplanned"])
def test_nobody_is_asked_about_a_vm_that_is_not_protected(run, kind):
    code, _, err = run("failover", kind, "web")
    assert code == 4
    assert "web: it is not protected" in err
    assert "Go on?" not in err


def test_a_tests_steps_are_told_alike_while_they_are_waited_for_and_afterwards(run, several):
    code, _, waited = run("failover", "test", "web", "--wait")
    assert code == 0, waited
    _, shown, _ = run("failover", "show", "web")
    for step in several.service.last_run("web").steps:
        begins = step.tells.partition(",")[0]  # a narrow terminal folds the rest
        assert begins in waited
        assert begins in shown
    assert several.service.last_run("web").kind == "test"


def test_a_commit_means_no_point_and_a_failback_tells_which_one_it_brought(run, several):
    for words in (("planned",), ("commit",), ("failback",), ("commit",)):
        several.wait(lambda: several.service.status("web")[0].state == "enabled")
        assert run("failover", words[0], "web", "--yes" if words[0] != "commit" else "--wait")[0] == 0
    runs = json.loads(run("failover", "history", "web", "--json")[1])
    assert [one["kind"] for one in runs] == ["finish", "failback", "commit", "planned"]
    assert [one["point"].isdigit() for one in runs] == [False, True, False, True]
    assert {runs[0]["point"], runs[2]["point"]} == {""}
    told = [
        event for event in json.loads(run("events", "--json")[1]) if event["what"] in ("commit begun", "finish begun")
    ]
    assert [event["detail"] for event in told] == ["", ""]
