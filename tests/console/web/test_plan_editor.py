"""Plans are written on pages: each act, each mistake, and two people at once. Asked as a browser asks."""

import html
import re

import pytest
import yaml
from tests.console.plan_world import APP, BARE, DB, FRONT
from tests.console.web.stand import Stand

from leeward.domain.plans import PlanKind

pytestmark = pytest.mark.usefixtures("quick")


class Editor:
    """The form as a browser holds it: what a page shows is sent back with the next click."""

    def __init__(self, pages, path):
        self.pages, self.path = pages, path
        self.answer = pages.get(path)
        assert self.answer.status_code == 200, self.answer.text
        self.read()

    def read(self):
        page = self.answer.text
        form = re.search(r'<form id="plan-form".*?</form>', page, re.S)[0]
        self.fields = []
        for tag in re.finditer(r"<input[^>]*>|<select.*?</select>", form, re.S):
            text = tag[0]
            name = html.unescape(re.search(r'name="([^"]*)"', text)[1])
            if text.startswith("<select"):
                options = re.findall(r'<option value="([^"]*)"( selected)?', text)
                chosen = [value for value, marked in options if marked] or [value for value, _ in options[:1]]
                self.fields += [(name, html.unescape(value)) for value in chosen]
            elif 'type="checkbox"' not in text or " checked" in text:
                self.fields.append((name, html.unescape(re.search(r'value="([^"]*)"', text)[1])))

    def type(self, name, value):
        assert any(found == name for found, _ in self.fields), (name, self.fields)
        self.fields = [(found, value if found == name else old) for found, old in self.fields]
        return self

    def tick(self, name, value="1"):
        self.fields.append((name, value))
        return self

    def press(self, do):
        """A button, which has to be there and not greyed."""
        saves = do.startswith("save")
        which = f'value="{do}"' if saves else f'id="{re.escape(do)}"'
        button = re.search(rf"<button[^>]* {which}[^>]*>", self.answer.text)
        assert button, do
        assert " disabled" not in button[0], do
        if saves:
            return self.save(do)
        return self.send(html.unescape(re.search(r'hx-post="/plan-draft.do=([^"]*)"', button[0])[1]))

    def send(self, do):
        """What a button asks for, or a field that was changed (""): another look, and nothing kept."""
        return self.asked(f"/plan-draft?do={do}", self.fields)

    def save(self, do):
        action = re.search(r'<form id="plan-form" method="post" action="([^"]*)"', self.answer.text)[1]
        return self.asked(action, [*self.fields, ("do", do)])

    def asked(self, path, fields):
        form = {}
        for name, value in fields:
            form.setdefault(name, []).append(value)
        self.answer = self.pages.post(path, form)
        if self.answer.status_code != 204:
            self.read()
        return self

    def value(self, name):
        return [value for found, value in self.fields if found == name]

    def groups(self):
        """[(name, VM ids)]"""
        names = [name for name, _ in self.fields if re.fullmatch(r"groups\.\d+\.name", name)]
        return [(self.value(name)[0], self.value(name.replace("name", "vms"))) for name in names]

    def why(self, name):
        found = re.search(rf'id="why-{re.escape(name)}">(.*?)</p>', self.answer.text, re.S)
        return re.sub(r"<[^>]*>", "", found[1]).strip() if found else ""

    def focus(self):
        found = re.search(r'<\w+[^>]* id="([^"]*)"[^>]* autofocus', self.answer.text)
        return found and found[1]

    def said(self):
        return re.search(r'id="said">(.*?)</p>', self.answer.text, re.S)[1]


@pytest.fixture
def protected(stand):
    stand.world.protect_all()
    return stand


@pytest.fixture
def anna(protected):
    return protected.as_role("operator", "anna")


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """With a plan that stays as it is: nothing that is asked for here is taken."""
    made = Stand(tmp_path_factory.mktemp("planned"))
    made.world.protect_all()
    made.world.create()
    yield made
    made.close()


@pytest.fixture(scope="module")
def detailed(tmp_path_factory):
    """The same with a plan that has a check, a script and a delay."""
    made = Stand(tmp_path_factory.mktemp("detailed"))
    made.world.protect_all()
    made.world.script("dns.sh", "exit 0")
    made.world.create(
        groups=[
            {
                "name": "database",
                "vms": ["db"],
                "checks": [{"vm": "db", "kind": "http"}],
                "before": [{"run": "dns.sh a"}],
            },
            {"name": "application", "vms": ["app"], "delay": "5s"},
        ]
    )
    yield made
    made.close()


def document(stand, name="shop"):
    return stand.world.plans.get(name).document


def test_a_plan_is_made_by_clicks_alone(protected, anna):
    protected.world.script("dns.sh", "exit 0")
    editor = Editor(anna, "/new-plan")
    editor.type("name", "shop").type("groups.0.name", "database").type("groups.0.add", DB).press("vm-add:0")
    assert editor.groups() == [("database", [DB])]
    assert editor.said() == "db added to group database."
    editor.press("check-add:0")
    assert editor.focus() == "f-groups.0.checks.0.vm"
    editor.type("groups.0.checks.0.kind", "tcp").send("")
    editor.type("groups.0.checks.0.port", "5432").type("groups.0.checks.0.timeout", "2m")
    editor.press("group-add")
    assert editor.focus() == "f-groups.1.name"
    editor.type("groups.1.name", "front").type("groups.1.add", FRONT).press("vm-add:1")
    editor.type("groups.1.delay", "10s").tick("groups.1.approval").send("")
    editor.type("groups.1.question", "Is the storage there?")
    editor.press("script-add:1:after").type("groups.1.after.0.run", "dns.sh shop away")
    editor.press("check-add:1").type("groups.1.checks.0.kind", "http").send("")
    editor.type("groups.1.checks.0.path", "/health").type("groups.1.checks.0.on_failure", "continue")
    editor.press("network-add").type("networks.0.from", "bridge:br0").type("networks.0.to", "bridge:lan")
    editor.press("save")
    assert editor.answer.status_code == 204, editor.answer.text
    assert editor.answer.headers["hx-redirect"] == "/plans/shop"
    assert document(protected) == {
        "name": "shop",
        "note": "",
        "groups": [
            {
                "name": "database",
                "vms": ["db"],
                "delay": 0.0,
                "approval": False,
                "before": [],
                "after": [],
                "checks": [
                    {
                        "vm": "db",
                        "kind": "tcp",
                        "port": 5432,
                        "address": "",
                        "timeout": 120.0,
                        "on_failure": "stop",
                    }
                ],
                "on_failure": "stop",
            },
            {
                "name": "front",
                "vms": ["front"],
                "delay": 10.0,
                "approval": True,
                "question": "Is the storage there?",
                "before": [],
                "after": [
                    {
                        "run": "dns.sh shop away",
                        "timeout": 300.0,
                        "kinds": ["planned", "unplanned"],
                        "on_failure": "stop",
                    }
                ],
                "checks": [
                    {
                        "vm": "front",
                        "kind": "http",
                        "port": 80,
                        "address": "",
                        "path": "/health",
                        "status": 200,
                        "timeout": 120.0,
                        "on_failure": "continue",
                    }
                ],
                "on_failure": "stop",
            },
        ],
        "networks": {"bridge:br0": "bridge:lan"},
    }
    page = anna.get("/plans/shop").text
    for said in ("Is the storage there?", "dns.sh shop away", "TCP port 5432", "HTTP /health, port 80", "waits 10s"):
        assert said in page, said
    # And what was saved is what is shown again.
    again = Editor(anna, "/plans/shop/edit").press("save")
    assert again.answer.status_code == 204
    assert document(protected)["groups"][1]["question"] == "Is the storage there?"


def test_groups_and_vms_are_moved_and_removed(protected, anna):
    protected.world.create()
    editor = Editor(anna, "/plans/shop/edit")
    assert editor.groups() == [("database", [DB]), ("application", [APP, FRONT])]
    editor.press("group-down:0")
    assert [name for name, _ in editor.groups()] == ["application", "database"]
    assert editor.focus() == "group-up:1"
    assert editor.said() == "Group database is now number 2 of 2."
    editor.press("group-up:1").press(f"vm-up:1:{FRONT}")
    assert editor.groups() == [("database", [DB, FRONT]), ("application", [APP])]
    assert editor.focus() == f"vm-down:0:{FRONT}"
    editor.press("check-add:0").type("groups.0.checks.0.vm", FRONT).press(f"vm-down:0:{FRONT}")
    assert editor.value("groups.1.checks.0.vm") == [FRONT]  # its check goes along
    editor.press(f"vm-remove:1:{FRONT}")
    assert editor.value("groups.1.checks.0.vm") == []
    assert FRONT in [value for value, _ in re.findall(r'<option value="([^"]*)"( selected)?', editor.answer.text)]
    editor.press("group-remove:0")
    assert editor.groups() == [("application", [APP])]
    editor.press("save")
    assert [(group["name"], group["vms"]) for group in document(protected)["groups"]] == [("application", ["app"])]


def test_a_plan_is_renamed_with_its_runs_and_deleted(protected, anna):
    world = protected.world
    world.create()
    world.begin(PlanKind.TEST)
    world.wait(lambda: world.last().state == "done")
    Editor(anna, "/plans/shop/edit").type("name", "web shop").press("save")
    assert [plan.name for plan in world.plans.all()] == ["web shop"]
    assert anna.get("/plans/shop").status_code == 404
    page = anna.get("/plans/web%20shop").text
    assert "/plans/web%20shop/ask/cleanup" in page
    run = world.plans.runs.last("web shop")
    assert run.plan == "web shop"
    assert anna.post("/plans/web%20shop/ask/cleanup", {"run": run.id}).status_code == 204
    world.wait(lambda: world.plans.runs.last("web shop").state == "cleaned")
    assert protected.vault.document(DB, "plans")["plans"][0]["name"] == "web shop"
    assert anna.post("/plans/web%20shop/delete").headers["hx-redirect"] == "/plans"
    assert world.plans.all() == []
    assert anna.post("/plans/web%20shop/delete").status_code == 404


def test_a_plan_whose_run_waits_is_neither_renamed_nor_deleted(protected, anna):
    world = protected.world
    world.create(groups=[{"name": "all", "vms": ["db"], "approval": True}])
    world.begin(PlanKind.TEST)
    world.wait(lambda: world.last().state == "waiting")
    renamed = Editor(anna, "/plans/shop/edit").type("name", "other").press("save")
    assert renamed.answer.status_code == 409
    assert "it cannot be renamed now" in renamed.why("name")
    assert renamed.value("name") == ["other"]
    assert anna.post("/plans/shop/delete").status_code == 409
    assert Editor(anna, "/plans/shop/edit").type("note", "changed").press("save").answer.status_code == 204
    assert world.plans.get("shop").note == "changed"


@pytest.mark.parametrize(
    ("field", "value", "where", "said"),
    [
        ("name", "", "name", "up to 63 letters"),
        ("name", "a/b", "name", "up to 63 letters"),
        ("groups.0.name", "application", "groups.1.name", "has this name too"),
        ("groups.1.delay", "soon", "groups.1.delay", "write it like 30s or 5m"),
        ("groups.1.delay", "99d", "groups.1.delay", "At most 7 days"),
        ("groups.0.checks.0.port", "99999", "groups.0.checks.0.port", "A port from 1 to 65535"),
        ("groups.0.checks.0.port", "x", "groups.0.checks.0.port", "A whole number is needed"),
        ("groups.0.checks.0.path", "health", "groups.0.checks.0.path", "begins with /"),
        ("groups.0.checks.0.timeout", "0s", "groups.0.checks.0.timeout", "more than 0"),
        ("groups.0.checks.0.address", "here", "groups.0.checks.0.address", "is no IP address"),
        ("groups.0.before.0.run", "nothing.sh", "groups.0.before.0.run", "there is no such script"),
        ("groups.0.before.0.run", "../etc/passwd", "groups.0.before.0.run", "without a path"),
        ("groups.0.before.0.run", "", "groups.0.before.0.run", "It is empty"),
    ],
)
def test_what_is_wrong_is_told_beside_its_field_and_nothing_is_lost(detailed, field, value, where, said):
    before = document(detailed)
    anna = detailed.as_role("operator", "anna")
    editor = Editor(anna, "/plans/shop/edit").type("note", "with care").type(field, value).press("save")
    assert editor.answer.status_code == 422
    assert said in editor.why(where)
    assert f'<a href="#f-{where}">' in editor.answer.text
    assert editor.value("note") == ["with care"]
    assert editor.value(field) == [value]
    assert document(detailed) == before


def test_all_that_is_wrong_is_told_at_once(protected, anna):
    editor = Editor(anna, "/new-plan").press("group-add").press("save")
    assert editor.answer.status_code == 422
    for where in ("name", "groups.0.name", "groups.0.vms", "groups.1.name", "groups.1.vms"):
        assert editor.why(where), where
    taken = protected.world.create()
    editor.type("name", taken.name).type("groups.0.name", "a").press("group-remove:1")
    editor.type("groups.0.add", DB).press("vm-add:0").press("save")
    assert (editor.answer.status_code, editor.why("name")) == (409, "A plan of this name exists")
    assert editor.groups() == [("a", [DB])]


def test_a_vm_that_is_protected_no_more_is_told_at_its_place(protected, anna):
    protected.world.create()
    protected.service.unprotect("app")
    editor = Editor(anna, "/plans/shop/edit").press("save")
    assert editor.answer.status_code == 422
    assert "is not protected" in editor.why("groups.1.vms.0")
    assert editor.press(f"vm-remove:1:{APP}").press("save").answer.status_code == 204


def test_of_two_who_change_one_plan_the_second_is_told(protected, anna):
    protected.world.create()
    mine, theirs = Editor(anna, "/plans/shop/edit"), Editor(protected.as_role("operator", "bert"), "/plans/shop/edit")
    theirs.type("note", "by bert").type("groups.0.name", "their database").press("save")
    mine.type("note", "by anna").press("save")
    assert mine.answer.status_code == 409
    assert "Somebody else has changed this plan meanwhile." in mine.answer.text
    assert "By: bert" in mine.answer.text
    assert "their database" in mine.answer.text
    assert protected.world.plans.get("shop").note == "by bert"
    assert mine.value("note") == ["by anna"]
    mine.press("save")
    assert mine.answer.status_code == 409  # only the other button saves it all the same
    theirs = Editor(theirs.pages, "/plans/shop/edit").type("note", "by bert again").press("save")
    mine.press("save-over")
    assert mine.answer.status_code == 409  # and only over what was shown
    mine.press("save-over")
    assert mine.answer.status_code == 204
    assert protected.world.plans.get("shop").note == "by anna"


def test_a_run_meanwhile_is_no_change(protected, anna):
    protected.world.create()
    editor = Editor(anna, "/plans/shop/edit").type("note", "n")
    protected.world.begin(PlanKind.TEST)
    protected.world.wait(lambda: protected.world.last().state == "done")
    assert editor.press("save").answer.status_code == 204


def test_a_plan_that_was_deleted_meanwhile_can_be_saved_as_a_new_one(protected, anna):
    protected.world.create()
    editor = Editor(anna, "/plans/shop/edit").type("note", "kept")
    protected.world.plans.delete("shop", "bert")
    editor.press("save")
    assert editor.answer.status_code == 409
    assert "deleted or renamed" in editor.answer.text
    editor.press("save-new")
    assert editor.answer.status_code == 204
    assert protected.world.plans.get("shop").note == "kept"


def test_out_as_a_file_and_in_again(protected, anna):
    protected.world.script("dns.sh", "exit 0")
    protected.world.create(
        note="what the customers see",
        groups=[
            {"name": "database", "vms": ["db"], "checks": [{"vm": "db", "kind": "tcp", "port": 5432}]},
            {
                "name": "front",
                "vms": ["front"],
                "approval": True,
                "question": "Sure?",
                "delay": "10s",
                "after": [{"run": "dns.sh x", "kinds": ["test"]}],
            },
        ],
    )
    answer = protected.as_role("viewer").get("/plans/shop/file")
    assert 'filename="shop.yaml"' in answer.headers["content-disposition"]
    text = answer.text
    assert yaml.safe_load(text)["groups"][0] == {
        "name": "database",
        "vms": ["db"],
        "checks": [{"vm": "db", "kind": "tcp", "port": 5432, "timeout": 120}],
    }
    before = document(protected)
    protected.world.plans.delete("shop", "anna")
    answer = anna.post("/import-plan", {"text": text})
    assert answer.status_code == 200
    assert protected.world.plans.all() == []  # looked over first
    editor = Editor.__new__(Editor)
    editor.pages, editor.answer = anna, answer
    editor.read()
    editor.press("save")
    assert editor.answer.status_code == 204, editor.answer.text
    assert document(protected) == before


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "A plan has a name and groups"),
        ("{", "This is not YAML that can be used"),
        ("- a\n- b", "A plan has a name and groups"),
        ("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]", "taken by the command line only"),
        ("!!python/object/apply:os.system [id]", "A plan has a name and groups"),
    ],
)
def test_files_that_are_no_plans(shared, text, said):
    answer = shared.as_role("operator", "anna").post("/import-plan", {"text": text})
    assert answer.status_code == 422
    assert said in answer.text
    assert shared.world.plans.all() == []


def test_a_file_with_mistakes_is_shown_with_them(protected, anna):
    text = (
        'name = "shop"\nnote = 7\ngroups = [{name = "a", vms = ["db", "nobody"], checks = 5}, 3]\n[networks]\nx = 1\n'
    )
    answer = anna.post("/import-plan", {"text": text})
    assert answer.status_code == 200
    assert "there is no protected VM nobody" in answer.text
    assert f'value="{DB}"' in answer.text


@pytest.mark.parametrize(
    ("group", "field", "said"),
    [
        ("{name: a, vms: [db], before: [stop.sh]}", "groups.0.before.0", "fields with values are needed"),
        ("{name: a, vms: [db], checks: [{vm: db, kind: tcp, port: 5, prot: 5432}]}",
         "groups.0.checks.0.prot", "there is no such field"),
        ("{name: a, vms: [db], aproval: true}", "groups.0.aproval", "there is no such field"),
        ("{name: a, vms: [db], approval: perhaps}", "groups.0.approval", "true or false is needed"),
    ],
)  # fmt: skip
def test_what_the_form_has_no_place_for_is_told_with_its_own(shared, group, field, said):
    page = shared.as_role("operator", "anna").post("/import-plan", {"text": f"name: shop\ngroups: [{group}]"}).text
    assert "Not saved yet" in page
    assert re.search(rf">{re.escape(field)}: [^<]*{said}", page)
    japanese = shared.as_role("operator", "yuki", language="ja")
    page = japanese.post("/import-plan", {"text": f"name: shop\ngroups: [{group}]"}).text
    assert f"{field}: " in page
    assert "there is no such field" not in page


def test_a_sound_file_is_taken_as_it_is(shared):
    page = (
        shared.as_role("operator", "anna")
        .post("/import-plan", {"text": "name: shop\ngroups: [{name: a, vms: [db], approval: on}]"})
        .text
    )
    assert "Not saved yet" not in page
    assert re.search(r'name="groups.0.approval" value="1" checked', page)


@pytest.mark.parametrize("text", ["a = " + "[" * 3000, "a." * 2000 + "a = 1", "groups: [" + "{}, " * 501 + "]"])
def test_files_that_would_take_too_much_are_refused_beside_their_text(shared, text):
    answer = shared.as_role("operator", "anna").post("/import-plan", {"text": text})
    assert answer.status_code == 422
    assert 'id="why-text"' in answer.text


def test_a_thousand_mistakes_are_told_in_part(shared):
    text = "name: shop\ngroups: []\n" + "\n".join(f"x{number}: 1" for number in range(1000))
    page = shared.as_role("operator", "anna").post("/import-plan", {"text": text}).text
    assert 100 < page.count("there is no such field") < 500


def test_two_networks_of_one_name_are_not_made_one(protected, anna):
    protected.world.create()
    editor = Editor(anna, "/plans/shop/edit")
    for place, target in enumerate(("bridge:a", "bridge:b")):
        editor.press("network-add").type(f"networks.{place}.from", "bridge:br0").type(f"networks.{place}.to", target)
    editor.press("save")
    assert editor.answer.status_code == 422
    assert editor.why("networks.1.from") == "Another network has this name too"
    editor.type("networks.1.from", "bridge:br1").press("save")
    assert editor.answer.status_code == 204
    assert document(protected)["networks"] == {"bridge:br0": "bridge:a", "bridge:br1": "bridge:b"}


@pytest.mark.parametrize("name", ["request", "error", "self"])
def test_plans_may_have_any_name(protected, anna, name):
    protected.world.create(name=name)
    editor = Editor(anna, "/new-plan").type("name", name).type("groups.0.name", "a")
    editor.type("groups.0.add", DB).press("vm-add:0").press("save")
    assert (editor.answer.status_code, editor.why("name")) == (409, "A plan of this name exists")


@pytest.mark.parametrize(
    "do",
    ["group-up:0", "group-down:9", "group-remove:x", "vm-add:0", "vm-up:0:nope", f"vm-add:{BARE}",
     "part-remove:0:vms:0", "part-remove:0:checks:-1", "check-add", "explode:1:2:3:4",
     "network-remove:5", "", "group-up:-1"],
)  # fmt: skip
def test_acts_that_make_no_sense_change_nothing(planned, do):
    editor = Editor(planned.as_role("operator", "anna"), "/plans/shop/edit")
    before = editor.groups()
    editor.fields = [(name, BARE if name.endswith(".add") else value) for name, value in editor.fields]
    assert editor.send(do).answer.status_code == 200
    assert editor.groups() == before


def test_forms_that_are_not_ours_are_refused(protected, anna):
    for form in (
        {"groups.999999.name": "x"},
        {"networks.5000.from": "x"},
        {f"groups.{'9' * 5000}.name": "x"},
        {"groups.0.checks.700.vm": "x"},
    ):
        assert anna.post("/new-plan", {**form, "do": "save"}).status_code == 422, form
    assert protected.as_role("viewer").post("/new-plan", {"do": "save"}).status_code == 403
    assert anna.post("/new-plan", {"groups.0.oops": "x", "x.y": "z", "do": "save"}).status_code == 422


def test_in_japanese(shared):
    pages = shared.as_role("operator", "yuki", language="ja")
    editor = Editor(pages, "/new-plan").press("save")
    assert not re.search(r"a name has up to|does nothing|Not saved", editor.answer.text)


def test_only_what_is_kept_is_in_the_audit_log(protected, anna):
    before = len(protected.audit())
    editor = Editor(anna, "/new-plan").press("group-add").press("group-remove:1")
    assert len(protected.audit()) == before
    editor.type("name", "night").press("save")
    assert protected.audit()[0]["what"] == "create plan"
    bare = anna.ask("POST", "/plan-draft?do=group-add", {"name": "x"}, bare=True)
    assert bare.status_code == 403  # it comes from a page that is not ours
