"""`leeward plan …` as a script sees it, against a console with VMs in memory behind a real socket."""

import json
import re
import sys
from pathlib import Path

import pytest
from tests.cli.by_socket import answer, behind_socket, configure
from tests.cli.conftest import Terminal
from tests.console.plan_world import NAMES, PlanWorld

from leeward.cli.main import main
from leeward.console.api import build_api
from leeward.console.identity import build_identity
from leeward.console.plans_api import build_router
from leeward.console.views import ProtectRequest

# Real time, real processes: not for the fast suite.
pytestmark = pytest.mark.slow

DOCS = Path(__file__).parents[2] / "docs"
YAML = """
name: shop
note: what the customers see
groups:
  - name: database
    vms: [db]
    checks:
      - {vm: db, kind: agent, timeout: 30s}
  - name: application
    vms: [app, front]
    delay: 0.1
    approval: true
    before:
      - run: note.sh --from leeward
        timeout: 1m
"""


@pytest.fixture
def world(tmp_path):
    made = PlanWorld(tmp_path)
    made.script("note.sh", "echo noted")
    yield made
    made.close()


@pytest.fixture
def run(world, tmp_path, monkeypatch, capsys):
    """run("list", …) → (exit code, standard output, standard error)."""
    configure(tmp_path, monkeypatch)
    app = build_api(world.service, build_identity(world.database), [build_router(world.plans)])
    with behind_socket(app, tmp_path, capsys) as call:

        def plan(*words):
            return call("plan", *words)

        plan.file = tmp_path / "shop.yaml"
        plan.file.write_text(YAML)
        yield plan


def documented(command):
    """The example of a command's answer in docs/cli.md."""
    text = (DOCS / "cli.md").read_text()
    section = text.split(f"### `leeward plan {command}", 1)[1].split("\n### ", 1)[0]
    return json.loads(re.search(r"```json\n(.*?)```", section, re.DOTALL)[1])


def keys(document):
    return sorted(document[0] if isinstance(document, list) else document)


def test_the_life_of_a_plan(run, world):
    world.protect_all()
    assert answer(run("list", "--json")) == []
    made = answer(run("create", run.file, "--json"))
    assert keys(made) == keys(documented("show"))
    assert (made["vms"], made["troubles"], made["last_run"]) == (["db", "app", "front"], [], None)
    assert made["document"]["groups"][1]["before"][0]["timeout"] == 60.0
    assert keys(answer(run("list", "--json"))) == keys(documented("show"))
    # What `show` tells is itself a document.
    again = run.file.with_suffix(".json")
    again.write_text(json.dumps(answer(run("show", "shop", "--json"))["document"]))
    code, _, err = run("create", again)
    assert code == 4
    assert "a plan of this name exists" in err
    assert answer(run("create", again, "--replace", "--json"))["document"] == made["document"]
    assert "application" in run("show", "shop")[1]

    begun = answer(run("run", "shop", "--unplanned", "--json"))
    assert keys(begun) == keys(documented("status"))
    assert keys(begun["steps"]) == keys(documented("status")["steps"])
    code, out, _ = run("status", "shop", "--watch")
    assert code == 0
    assert "leeward plan approve shop" in out
    waiting = answer(run("status", "shop", "--json"))
    assert (waiting["state"], waiting["waits_for"], waiting["by"]) == ("waiting", "application", "local")
    assert run("run", "shop", "--test", "--planned")[0] == 2
    assert run("run", "shop", "--planned")[0] == 4
    code, out, err = run("approve", "shop", "--note", "all is well", "--wait")
    assert (code, "has come up" in out) == (0, True), err
    done = answer(run("status", "shop", "--json"))
    assert (done["state"], done["complete"]) == ("done", True)
    assert done["rto_s"] > 0
    assert world.where() == dict.fromkeys(NAMES.values(), "recovery")
    text = run("status", "shop")[1]
    assert "by local: all is well" in text
    assert "Run note.sh" in text
    assert len(answer(run("history", "shop", "--json"))) == 1
    assert answer(run("delete", "shop", "--json")) == {"plan": "shop", "state": "deleted"}
    assert run("show", "shop")[0] == 3


def test_at_a_terminal_whoever_wants_json_is_asked_as_well(run, world, monkeypatch):
    world.protect_all()
    answer(run("create", run.file, "--json"))
    for wanted in ("--planned", "--unplanned"):
        monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
        code, out, err = run("run", "shop", wanted, "--json")
        assert (code, json.loads(out)["error"]["code"]) == (1, "declined")
        assert "Go on?" in err
    assert answer(run("list", "--json"))[0]["last_run"] is None


def test_what_each_vm_of_a_plan_loses_is_told_before_the_question(run, world, monkeypatch):
    world.protect_all()
    answer(run("create", run.file, "--json"))

    def asked(*words):
        monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
        return run("run", "shop", *words)

    code, _, err = asked("--unplanned")
    assert code == 1
    for vm_id, name in NAMES.items():
        newest = world.vault.log(vm_id).points()[-1].id
        assert re.search(rf"^{name} is started from: {newest} of \S+ \S+ \([0-9.]+ s old\)$", err, re.MULTILINE), err
    assert re.search(r"db, app, front: all are started at the recovery site; up to [0-9.]+ s are lost\. Go on\?", err)
    code, _, err = asked("--unplanned", "--point", "app")  # none of them has one
    assert re.search(r"^db: there is no application-consistent ", err, re.MULTILINE), err
    assert "what is not in the vault yet is lost. Go on?" in err
    for kind in ("--planned", "--unplanned"):
        code, _, err = asked(kind, "--to", "moon")
        assert (code, "Go on?" in err) == (3, False), err
    office = [host for host in world.service.hosts() if host.name == "office"]
    monkeypatch.setattr(world.service, "hosts", lambda: office)
    for kind in ("--planned", "--unplanned"):
        code, _, err = asked(kind)
        assert (code, "Go on?" in err) == (3, False), err
        assert "no recovery host is known" in err
    assert answer(run("list", "--json"))[0]["last_run"] is None


@pytest.mark.slow
def test_a_test_is_run_and_cleaned_up(run, world):
    world.protect_all()
    text = 'name = "small"\n[[groups]]\nname = "all"\nvms = ["db", "app"]\n'
    run.file.with_suffix(".toml").write_text(text)
    answer(run("create", run.file.with_suffix(".toml"), "--json"))
    done = answer(run("run", "small", "--test", "--wait", "--json"))
    assert done["complete"]
    assert len(world.recovery.hypervisor.vms()) == 2
    assert run("run", "small", "--test")[0] == 4
    cleaned = answer(run("cleanup", "small", "--json"))
    assert cleaned["state"] == "cleaned"
    assert world.recovery.hypervisor.vms() == []


@pytest.mark.slow
def test_what_stalls_is_told_with_what_can_be_done(run, world):
    world.protect_all()
    run.file.write_text(YAML.replace("kind: agent, timeout: 30s", "kind: tcp, port: 1, timeout: 0.3"))
    answer(run("create", run.file, "--json"))
    code, _, err = run("run", "shop", "--test", "--wait")
    assert code == 1
    assert "leeward plan retry shop" in err
    assert "Traceback" not in err
    code, out, _ = run("retry", "shop", "--wait", "--json")
    assert (code, json.loads(out)["state"]) == (1, "stalled")
    assert answer(run("retry", "shop", "--skip", "--wait", "--json"))["state"] == "waiting"
    assert answer(run("abort", "shop", "--wait", "--json"))["state"] == "aborted"
    assert answer(run("cleanup", "shop", "--json"))["state"] == "cleaned"


def test_drills_of_a_plan_are_scheduled_listed_and_ended(run, world, capsys):
    for name in NAMES.values():
        world.service.protect(name, ProtectRequest())
    answer(run("create", run.file, "--json"))

    def drill(*words):
        capsys.readouterr()
        assert main(["drill", *words]) == 0
        return capsys.readouterr().out

    made = json.loads(drill("set", "--plan", "shop", "--every", "30d", "--run", "--window", "22:00-04:00", "--json"))
    assert (made["plan"], made["vm"], made["mode"], len(made["vm_ids"])) == ("shop", "", "run", 3)
    assert json.loads(drill("list", "--json")) == [made]
    section = (DOCS / "cli.md").read_text().split("### `leeward drill list`", 1)[1].split("\n### ", 1)[0]
    documented = json.loads(re.search(r"```json\n(.*?)```", section, re.DOTALL)[1])
    assert all(set(made) == set(one) for one in documented)
    assert "plan shop" in drill("list")
    assert "plan shop" in drill("set", "--plan", "shop", "--every", "7d")
    assert json.loads(drill("set", "--plan", "shop", "--never", "--json")) == {"plan": "shop", "drill": None}
    assert main(["drill", "set", "--plan", "nobody", "--never"]) == 3
    assert main(["drill", "set", "--every", "7d"]) == 2


BAD = [
    (("vms: [db]", "vms: []"), "groups.0.vms: a group without VMs does nothing"),
    (("vms: [db]", "vms: db"), "groups.0.vms: a list is needed"),
    (("vms: [app, front]", "vms: [app, app]"), "groups.1.vms.1: app is in the plan already, at groups.1.vms.0"),
    (("vms: [app, front]", "vms: [app, db]"), "groups.1.vms.1: db is in the plan already, at groups.0.vms.0"),
    (("vms: [app, front]", "vms: [app, nobody]"), "groups.1.vms.1: there is no protected VM nobody"),
    (("vms: [app, front]", "vms: [app, bare]"), "groups.1.vms.1: bare is not protected"),
    (("delay: 0.1", "delay: soon"), "groups.1.delay: 'soon' is not a duration"),
    (("delay: 0.1", "delay: 8d"), "groups.1.delay: at most 7 days"),
    (("delay: 0.1", "dely: 0.1"), "groups.1.dely: there is no such field"),
    (("kind: agent", "kind: smell"), "groups.0.checks.0.kind: one of 'agent', 'tcp' or 'http' is needed"),
    (("timeout: 30s}", "timeout: 30s, status: yes}"), "groups.0.checks.0.status: a whole number is needed"),
    (("note: what the customers see", "note: [x]"), "note: a text is needed"),
    (("kind: agent", "kind: tcp"), "groups.0.checks.0.port: a port from 1 to 65535 is needed"),
    (("{vm: db,", "{vm: app,"), "groups.0.checks.0.vm: this VM is not in the group"),
    (("note.sh --from", "nothing.sh --from"), "groups.1.before.0.run: "),
    (("note.sh --from", "/bin/sh -c"), "groups.1.before.0.run: /bin/sh: a script is named, without a path"),
    (("note.sh --from", "note.sh 'from"), "groups.1.before.0.run: no closing quotation"),
    (("name: shop", "name: sh/op"), "name: a name has up to 63 letters"),
    (("name: shop", "nom: shop"), "name: it is missing"),
    (("groups:", "gruppen:"), "groups: it is missing"),
    (("  - name: database", " - x\n  - name: database"), "this is not YAML"),
]


def test_a_file_that_cannot_be_used_is_told_in_one_line_that_names_the_field(run, world):
    for name in NAMES.values():
        world.service.protect(name, ProtectRequest())
    for (good, bad), says in BAD:
        assert good in YAML
        run.file.write_text(YAML.replace(good, bad))
        code, out, err = run("create", run.file)
        assert (code, out) == (2, ""), err
        assert says in err
        assert err.count("\n") == 1, err
    assert world.plans.all() == []
    run.file.write_text("- a list")
    assert "a plan has a name and groups" in run("create", run.file)[2]
    run.file.write_text("a: &a [*a]")
    assert "this is not YAML" in run("create", run.file)[2]
    run.file.with_suffix(".toml").write_text("name = 1979-05-27\ngroups = nan")
    assert "this is not TOML" in run("create", run.file.with_suffix(".toml"))[2]
    assert run("create", run.file.with_name("absent.yaml"))[0] == 3
    for words in (["show", "no/such"], ["run", "nope", "--test"], ["status", "nope"], ["approve", "nope"]):
        code, _, err = run(*words)
        assert (code, err.count("\n")) == (3, 1), err
