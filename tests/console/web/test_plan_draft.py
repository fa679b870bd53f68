"""Plans in the editor's form mean what their documents mean; what the form cannot hold is refused or told."""

import pytest

from leeward.console.plan_documents import look_over, read_plan
from leeward.console.web.forms import Form
from leeward.console.web.plan_acts import act
from leeward.console.web.plan_draft import (
    MOST_IN_ALL,
    MOST_PARTS,
    document_of_draft,
    doubles,
    draft_of_document,
    in_all,
    new_draft,
    read_draft,
)
from leeward.domain.errors import BadInput, NotFound
from leeward.domain.plans import Member

NAMES = {"id-1": "db", "id-2": "web", "id-3": "web", "id-4": "id-5", "id-5": "other"}


def find_vm(ref):
    found = [Member(vm_id, name) for vm_id, name in NAMES.items() if ref in (vm_id, name)]
    if len(found) != 1:
        raise BadInput("use the id") if found else NotFound("no such VM")
    return found[0]


def group(**more):
    return {"name": "a", "vms": ["db"], **more}


def through_the_form(document):
    return document_of_draft(draft_of_document(document, NAMES))


def wrong(document):
    return {fault.field: fault.what for fault in look_over(document, find_vm, lambda script: None)[1]}


@pytest.mark.parametrize(
    "groups",
    [
        *(
            [group(approval=word)]
            for word in (True, "true", "True", "on", "y", "YES", "t", "1", 1, False, "off", "no")
        ),
        [group(approval="on", question="Sure?"), {"name": "b", "vms": ["id-2", "id-3"], "delay": "90"}],
        [
            group(
                delay=0,
                on_failure="continue",
                before=[{"run": "a.sh 'b c'"}],
                after=[{"run": "b", "kinds": ["test"]}],
            )
        ],
        [group(before=[{"run": "a", "timeout": 90.5, "on_failure": "continue"}])],
        [group(checks=[{"vm": "db", "kind": "http", "path": "/x", "status": "204", "address": "10.0.0.5/24"}])],
        [group(checks=[{"vm": "db", "kind": "tcp", "port": "22", "timeout": "1m"}, {"vm": "db", "kind": "agent"}])],
    ],
)
def test_the_form_means_what_the_document_means(groups):
    document = {"name": "shop", "note": "n", "groups": groups, "networks": {"bridge:a": "bridge:b"}}
    read = [read_plan(one, find_vm, lambda script: None) for one in (document, through_the_form(document))]
    assert read[0] == read[1]


@pytest.mark.parametrize("vm", ["web", "id-5"])
def test_a_name_that_two_have_is_not_taken_for_one_of_them(vm):
    document = through_the_form({"name": "shop", "groups": [group(vms=["db", vm])]})
    assert wrong(document) == {"groups.0.vms.1": "use the id"}


def test_what_is_wrong_keeps_its_place_and_what_is_clear_its_text():
    found = draft_of_document({"groups": [3, group(vms=[[], "db"], before=["stop.sh now"], checks=[7])]}, NAMES)
    assert [one["name"] for one in found["groups"]] == ["", "a"]
    assert found["groups"][1]["vms"] == ["", "id-1"]
    assert found["groups"][1]["before"][0]["run"] == "stop.sh now"
    assert found["groups"][1]["checks"][0]["vm"] == ""


def test_a_network_that_comes_twice_is_told():
    rows = [("br0", "a"), ("br1", "b"), (" br0 ", "c"), ("", ""), ("", "")]
    assert [fault.field for fault in doubles({"networks": [{"from": a, "to": b} for a, b in rows]})] == [
        "networks.2.from"
    ]


@pytest.mark.parametrize(
    "document",
    [
        {"groups": [group()] * 501},
        {"groups": [group(checks=[{}] * 501)]},
        {"groups": [group(before=[{}] * 500)] * 5},
        {"groups": [group(vms=["x"] * 1001)]},
        {"networks": {str(number): "x" for number in range(501)}},
    ],
)
def test_nothing_is_cut_off(document):
    with pytest.raises(BadInput, match="not that large"):
        draft_of_document({"name": "shop", **document}, NAMES)


def form(*names):
    return Form([(name, "x") for name in names])


@pytest.mark.parametrize(
    "name",
    ["groups.1.name", "groups.0.checks.1.vm", "groups.0.before.499.run", "groups.400.checks.0.vm", "networks.7.to"],
)
def test_a_form_that_skips_places_is_not_ours(name):
    with pytest.raises(BadInput):
        read_draft(form(name))


def test_forms_are_bounded_as_a_whole():
    parts = [f"groups.{group}.after.{place}.run" for group in range(5) for place in range(400)]
    assert in_all(read_draft(form(*parts))) == MOST_IN_ALL
    with pytest.raises(BadInput):
        read_draft(form(*parts, "groups.5.checks.0.vm"))
    with pytest.raises(BadInput):
        read_draft(Form([("groups.0.vms", str(number)) for number in range(5000)]))


def test_buttons_add_no_more_than_the_form_takes_back():
    draft = new_draft()
    draft["groups"] *= 5
    for number in range(MOST_PARTS):
        draft["groups"][0]["checks"].append({"vm": str(number)})  # one list, which all five share
    assert in_all(draft) > MOST_IN_ALL
    assert act(draft, "script-add:1:after", form(), {}).said is None
    assert act(draft, "check-add:1", form(), {}).said is None
