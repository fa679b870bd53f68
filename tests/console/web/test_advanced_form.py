"""Warm replicas and consistency groups by the policy's form, and on the VM's page."""

import html
import re

import pytest
from tests.console.plan_world import APP, BARE, DB, FRONT
from tests.console.web.test_moves import POLICY, beside, until

from leeward.console.views import DrillRequest, ProtectRequest
from leeward.console.web.advanced_form import KEEP, read_advanced
from leeward.console.web.forms import Form
from leeward.domain.errors import BadInput, NotFound, Unavailable
from leeward.domain.names import check_host_name

pytestmark = pytest.mark.usefixtures("quick")

EDGE = "6c9a3f0e-5d0f-4a53-9d0e-5a1f6f2f3b09"  # lives on the recovery host
SPARE = "6c9a3f0e-5d0f-4a53-9d0e-5a1f6f2f3b0a"  # never protected


@pytest.fixture(scope="module")
def odd(shared):
    """With a group on the recovery host as well. All that is asked for here is refused."""
    world = shared.world
    world.recovery.hypervisor.add(EDGE, "edge", {"vda": bytes(65536)})
    world.office.hypervisor.add(SPARE, "spare", {"vda": bytes(65536)})
    until(lambda: {EDGE, SPARE} <= {vm.id for vm in world.fleet.view().vms})
    world.service.protect("edge", ProtectRequest(group="edges"))
    world.service.protect("db", ProtectRequest(group="shop", group_s=30))
    return shared


def policies(stand):
    return {wish.vm_name: wish.policy for wish in stand.database.desired().protections}


def options(page, name):
    """[(value, text, chosen)] of a list of the form."""
    box = re.search(rf'<select id="f-{name}".*?</select>', page, re.S)[0]
    found = re.findall(r'<option value="([^"]*)"( selected)?>([^<]*)<', box)
    return [(value, html.unescape(text), bool(chosen)) for value, chosen, text in found]


def unfolded(page):
    return '<details class="more" open>' in page


def card(page):
    found = re.search(r'<section class="card" id="vm-policy".*?</section>', page, re.S)[0]
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", found)).split())


def test_what_is_offered(odd):
    operator = odd.as_role("operator")
    bare = operator.get(f"/enable?vm={BARE}").text
    assert options(bare, "warm") == [("", "Nowhere", True), ("recovery", "recovery", False)]
    assert not unfolded(bare)
    groups = re.search(r'<datalist id="groups">.*?</datalist>', bare, re.S)[0]
    assert '<option value="shop">on office, every 30 sec: db</option>' in groups
    assert '<option value="edges">on recovery, every 60 sec: edge</option>' in groups
    known = operator.get(f"/enable?vm={DB}").text
    assert unfolded(known)
    assert 'name="group" type="text" value="shop"' in known
    assert "Now 30s, for all VMs of the group." in known
    # Where it lives itself nothing is offered.
    assert options(operator.get(f"/enable?vm={EDGE}").text, "warm") == [("", "Nowhere", True)]
    several = operator.get(f"/enable?vm={DB}&vm={BARE}").text
    assert options(several, "warm")[0] == (KEEP, "Leave each VM's as it is", True)
    assert 'name="group" type="text" value=""' in several
    assert options(several, "grouping") == [
        (KEEP, "Leave each VM's as it is", True),
        ("", "None: all are taken out of theirs", False),
        ("named", "This one, for all of them", False),
    ]
    # Neither has anything that could be left as it is.
    fresh = operator.get(f"/enable?vm={BARE}&vm={SPARE}").text
    assert options(fresh, "warm")[0] == ("", "Nowhere", True)
    assert options(fresh, "grouping") == [("", "None", True), ("named", "This one, for all of them", False)]


@pytest.mark.parametrize(
    ("vms", "given", "field", "words"),
    [
        ([DB], {"warm": "office"}, "warm", "office is the home of db: a replica there would be lost"),
        ([DB, EDGE], {"warm": "recovery"}, "warm", "recovery is the home of edge"),
        ([DB], {"warm": "moon"}, "warm", "There is no host moon now."),
        ([BARE], {"group": "edges"}, "group", "edges is on recovery (edge), and bare is on office."),
        ([APP, EDGE], {"group": "new"}, "group", "app is on office, and edge is on recovery."),
        ([DB, EDGE], {"group": "shop"}, "group", "shop is on office (db), and edge is on recovery."),
        ([DB], {"group": "a b"}, "group", "Up to 64 letters"),
        ([DB], {"group": "x" * 65}, "group", "Up to 64 letters"),
        ([DB], {"group": "", "group_s": "20s"}, "group_s", "Name a group, or leave this empty."),
        ([BARE], {"group": "", "group_s": "20s"}, "group_s", "Name a group, or leave this empty."),
        ([DB, APP], {"group": "", "group_s": "20s"}, "group_s", "Name a group, or leave this empty."),
        ([DB, APP], {"grouping": "", "group_s": "20s"}, "group_s", "Name a group, or leave this empty."),
        ([DB, APP], {"grouping": "named", "group": " ", "group_s": ""}, "group", "Name the group."),
        ([DB], {"group": "shop", "group_s": "often"}, "group_s", "Write it like 5s"),
        ([DB], {"group": "shop", "group_s": "1s"}, "group_s", "At least 5s."),
        ([DB], {"group": "shop", "group_s": "2d"}, "group_s", "At most 1d."),
    ],
)
def test_what_cannot_be_is_said_beside_its_field_and_nothing_is_lost_or_changed(odd, vms, given, field, words):
    before = odd.database.desired()
    form = {**POLICY, "rpo_s": "9s", "warm": "", "group": "keepme", "group_s": "7s", **given}
    answer = odd.as_role("operator").post("/enable", {"vm": vms, **form})
    assert answer.status_code == 422
    assert words in html.unescape(beside(answer, field))
    assert unfolded(answer.text)
    for name in ("rpo_s", "group", "group_s"):
        assert f'name="{name}" type="text" value="{form[name]}"' in answer.text
    if "grouping" in given:
        assert (given["grouping"], True) in [(value, on) for value, _, on in options(answer.text, "grouping")]
    assert answer.text.count('name="vm"') == len(vms)
    assert odd.database.desired() == before


def test_what_only_the_service_sees_is_said_beside_the_field_as_well(odd, monkeypatch):
    def gone(host):
        raise NotFound("no agent has this host", subject=host, hint="Known hosts: office")

    monkeypatch.setattr(odd.world.fleet, "link", gone)
    answer = odd.as_role("operator").post("/enable", {"vm": DB, **POLICY, "warm": "recovery", "group": "shop"})
    assert answer.status_code == 404
    assert beside(answer, "warm") == "No agent has this host"
    assert "db: no agent has this host" in answer.text
    assert ("recovery", "recovery", True) in options(answer.text, "warm")
    assert policies(odd)["db"].warm == ""


@pytest.mark.parametrize("role", ["viewer", None])
def test_it_is_for_operators(odd, role):
    asking = odd.as_role(role) if role else odd.pages()
    answer = asking.post("/enable", {"vm": DB, **POLICY, "warm": "recovery", "group": "other"})
    assert answer.status_code in (401, 403)
    assert policies(odd)["db"].group == "shop"


def test_one_vm_gets_both_and_loses_both(stand):
    stand.world.protect_all()
    operator = stand.as_role("operator")
    assert "Warm replica none Consistency group none" in card(operator.get(f"/vms/{DB}").text)
    form = {"vm": DB, **POLICY, "warm": "recovery", "group": "shop", "group_s": "20s"}
    assert operator.post("/enable", form).status_code == 204
    found = policies(stand)["db"]
    assert (found.warm, found.group, found.group_s) == ("recovery", "shop", 20)
    assert "no other VM is in it yet" in card(operator.get(f"/vms/{DB}").text)
    # Who joins without saying how often takes what the group has; what concerns others is left as it was.
    assert (
        operator.post("/enable", {"vm": APP, **POLICY, "warm": "", "group": "shop", "group_s": ""}).status_code == 204
    )
    assert policies(stand)["app"].group_s == 20
    until(lambda: stand.service.status("db")[0].replica.state == "warm")
    shown = card(operator.get(f"/vms/{DB}").text)
    assert "Warm replica recovery: warm" in shown
    assert "Consistency group shop, every 20 sec with app" in shown
    assert f'<a href="/vms/{APP}">app</a>' in operator.get(f"/vms/{DB}").text
    # One of them says how often for both.
    operator.post("/enable", {"vm": APP, **POLICY, "group": "shop", "group_s": "30s"})
    assert {name: policy.group_s for name, policy in policies(stand).items() if policy.group} == {"db": 30, "app": 30}
    assert policies(stand)["app"].warm == ""
    # A form without these fields (an older page) leaves them.
    operator.post("/enable", {"vm": DB, **POLICY})
    assert (policies(stand)["db"].warm, policies(stand)["db"].group) == ("recovery", "shop")
    operator.post("/enable", {"vm": DB, **POLICY, "warm": "", "group": "", "group_s": ""})
    assert (policies(stand)["db"].warm, policies(stand)["db"].group) == ("", "")


def test_several_get_both_and_what_is_left_empty_stays(stand):
    stand.world.protect_all()
    stand.service.protect("db", ProtectRequest(group="shop", group_s=20, warm=True))
    operator = stand.as_role("operator")
    kept = {"vm": [DB, APP], **POLICY, "rpo_s": "2s", "warm": KEEP, "group": "", "group_s": ""}
    assert operator.post("/enable", kept).status_code == 204
    found = policies(stand)
    assert (found["db"].rpo_s, found["db"].warm, found["db"].group) == (2, "recovery", "shop")
    assert (found["app"].rpo_s, found["app"].warm, found["app"].group) == (2, "", "")
    both = {"vm": [APP, FRONT, BARE], **POLICY, "warm": "recovery", "group": "shop", "group_s": "40s"}
    assert operator.post("/enable", both).status_code == 204
    assert {(policy.warm, policy.group, policy.group_s) for policy in policies(stand).values()} == {
        ("recovery", "shop", 40)
    }
    assert len(policies(stand)) == 4
    # All are in a group: its interval may be said alone.
    operator.post("/enable", {"vm": [APP, DB], **POLICY, "warm": KEEP, "group": "", "group_s": "50s"})
    assert {policy.group_s for policy in policies(stand).values()} == {50}
    operator.post("/enable", {"vm": [APP, DB], **POLICY, "warm": "", "group": ""})
    assert {name for name, policy in policies(stand).items() if policy.warm} == {"front", "bare"}


def test_several_leave_their_groups_at_once_join_one_or_stay_as_they_are(stand):
    stand.world.protect_all()
    stand.service.protect("db", ProtectRequest(rpo_s=2, group="shop", group_s=20))
    stand.service.protect("app", ProtectRequest(rpo_s=3, group="shop"))
    stand.service.protect("front", ProtectRequest(rpo_s=3, group="else"))
    operator = stand.as_role("operator")
    page = operator.get(f"/enable?vm={DB}&vm={APP}&vm={FRONT}").text
    # What all have is filled in, what differs is left to each.
    assert 'name="rpo_s" type="text" value=""' in page
    assert 'name="retain_s" type="text" value="1d"' in page
    assert "<h1>Change policy</h1>" in page
    form = {"vm": [DB, APP, FRONT], "several": "1", **POLICY, "rpo_s": "", "warm": KEEP, "group": "", "group_s": ""}
    groups = lambda: {name: (one.rpo_s, one.group) for name, one in policies(stand).items()}  # noqa: E731
    as_it_is = {"db": (2, "shop"), "app": (3, "shop"), "front": (3, "else")}
    assert operator.post("/enable", {**form, "grouping": KEEP}).status_code == 204
    assert groups() == as_it_is
    # A name that is still there from before the choice was changed does nothing.
    assert operator.post("/enable", {**form, "grouping": KEEP, "group": "other"}).status_code == 204
    assert groups() == as_it_is
    assert operator.post("/enable", {**form, "grouping": "named", "group": "all"}).status_code == 204
    assert groups() == {"db": (2, "all"), "app": (3, "all"), "front": (3, "all")}
    assert operator.post("/enable", {**form, "grouping": "", "group": "all"}).status_code == 204
    assert groups() == {"db": (2, ""), "app": (3, ""), "front": (3, "")}


def test_the_policy_of_several_is_changed_from_the_list(stand):
    stand.world.protect_all()
    href = f'href="/enable?vm={DB}&amp;vm={APP}"'
    page = stand.as_role("operator").get(f"/recovery?vm={DB}&vm={APP}").text
    tasks = page.partition('id="tasks"')[2]
    assert href in tasks
    assert "Choose a single VM" in tasks  # for failovers still


def test_a_replica_s_host_that_is_gone_keeps_nobody_from_changing_the_rest(stand):
    stand.world.protect_all()
    stand.service.protect("db", ProtectRequest(warm=True))
    stand.world.fleet._links = lambda: [stand.world.links[0]]
    operator = stand.as_role("operator")
    page = operator.get(f"/enable?vm={DB}").text
    assert options(page, "warm") == [("", "Nowhere", False), ("recovery", "recovery", True)]
    assert operator.post("/enable", {"vm": DB, **POLICY, "rpo_s": "4s", "warm": "recovery"}).status_code == 204
    assert (policies(stand)["db"].rpo_s, policies(stand)["db"].warm) == (4, "recovery")
    assert "the agent of recovery has not told of it" in card(operator.get(f"/vms/{DB}").text)


def test_who_posts_the_rest_again_after_a_failure_half_way_leaves_the_last_vm_what_it_has(stand, monkeypatch):
    stand.world.protect_all()
    stand.service.protect("db", ProtectRequest(group="shop", warm=True))
    stand.service.drills.wish(DB, "db", DrillRequest(every_s=86_400), "anna")
    operator = stand.as_role("operator")
    page = operator.get(f"/enable?vm={APP}&vm={DB}").text
    assert '<input type="hidden" name="several" value="1">' in page
    assert 'name="several"' not in operator.get(f"/enable?vm={DB}").text
    kept = {**POLICY, "rpo_s": "2s", "warm": KEEP, "group": "", "group_s": "", "drill_every": "", "drill_keep": ""}
    protect = stand.service.protect

    def fails(vm_id, request):
        if vm_id == DB:
            raise Unavailable("the agent is away", subject="db")
        return protect(vm_id, request)

    monkeypatch.setattr(stand.service, "protect", fails)
    answer = operator.post("/enable", {"vm": [APP, DB], "several": "1", **kept})
    assert answer.status_code == 503
    monkeypatch.undo()
    # One is left, and the form is still one for several.
    assert (answer.text.count('name="vm"'), answer.text.count('name="several" value="1"')) == (1, 1)
    assert options(answer.text, "warm")[0] == (KEEP, "Leave each VM's as it is", True)
    assert options(answer.text, "grouping")[0] == (KEEP, "Leave each VM's as it is", True)
    assert "Empty: each VM keeps the schedule" in answer.text
    again = operator.post("/enable", {"vm": DB, "several": "1", **kept})
    assert (again.status_code, again.headers["hx-redirect"]) == (204, "/recovery?show=protected")
    found = policies(stand)["db"]
    assert (found.rpo_s, found.warm, found.group) == (2, "recovery", "shop")
    assert [drill.vm for drill in stand.service.drills.all()] == ["db"]
    # What is said in so many words ends it for several as well.
    operator.post("/enable", {"vm": [APP, DB], "several": "1", **kept, "drill_every": "0s"})
    assert stand.service.drills.all() == []


@pytest.mark.parametrize(
    ("typed", "several", "warm"), [("keep", True, "keep"), ("keep", False, "keep"), (KEEP, True, None)]
)
def test_a_host_may_be_called_keep(odd, typed, several, warm):
    found = [one for one in odd.service.statuses()[0] if one.vm == "db"]
    named = odd.service.hosts()[0].model_copy(update={"name": "keep", "site": "recovery"})
    wrong = {}
    read = read_advanced(Form([("warm", typed)]), found, found, [named], several, wrong)
    assert (read.get("warm"), wrong) == (warm, {})


def test_of_one_vm_nothing_is_kept_and_no_host_can_be_called_so(odd):
    with pytest.raises(BadInput):
        check_host_name(KEEP)
    answer = odd.as_role("operator").post("/enable", {"vm": DB, **POLICY, "warm": KEEP})
    assert "There is no host * now." in html.unescape(beside(answer, "warm"))
