"""What makes a plan sound."""

from dataclasses import replace

import pytest

from leeward.domain.plans import Check, CheckKind, Group, Member, Plan, PlanKind, Script, faults

DB, APP = Member("1", "db"), Member("2", "app")
SOUND = Plan(
    "shop",
    (
        Group("database", (DB,), checks=(Check("1", CheckKind.TCP, 5432),)),
        Group("application", (APP,), delay_s=5, before=(Script("dns.sh", ("on",)),)),
    ),
)


def first(**changes):
    """SOUND, with its first group changed."""
    return replace(SOUND, groups=(replace(SOUND.groups[0], **changes), *SOUND.groups[1:]))


def check(**changes):
    return first(checks=(replace(SOUND.groups[0].checks[0], **changes),))


def script(**changes):
    return first(after=(Script(**{"file": "x.sh", **changes}),))


def test_a_sound_plan_has_no_fault():
    assert list(faults(SOUND)) == []


@pytest.mark.parametrize(
    ("plan", "field", "says"),
    [
        (replace(SOUND, name=""), "name", "letters"),
        (replace(SOUND, name="a/b"), "name", "letters"),
        (replace(SOUND, groups=()), "groups", "does nothing"),
        (first(members=()), "groups.0.vms", "does nothing"),
        (first(name="application"), "groups.1.name", "has this name too"),
        (first(delay_s=1), "groups.0.delay", "no group before"),
        (first(members=(DB, APP)), "groups.1.vms.0", "app is in the plan already, at groups.0.vms.1"),
        (first(members=(DB, DB)), "groups.0.vms.1", "already"),
        (check(vm_id="2"), "groups.0.checks.0.vm", "not in the group"),
        (check(port=0), "groups.0.checks.0.port", "1 to 65535"),
        (check(port=65536), "groups.0.checks.0.port", "1 to 65535"),
        (check(timeout_s=0), "groups.0.checks.0.timeout", "more than 0"),
        (check(address="db.local"), "groups.0.checks.0.address", "IP address"),
        (check(kind=CheckKind.HTTP, path="health"), "groups.0.checks.0.path", "begins with /"),
        (check(kind=CheckKind.HTTP, path="/a b"), "groups.0.checks.0.path", "no spaces"),
        (check(kind=CheckKind.HTTP, path="/a\r\nX: y"), "groups.0.checks.0.path", "no spaces"),
        (check(kind=CheckKind.HTTP, status=42), "groups.0.checks.0.status", "100 to 599"),
        (script(file="../x.sh"), "groups.0.after.0.run", "no name of a file"),
        (script(file="/bin/sh"), "groups.0.after.0.run", "no name of a file"),
        (script(file=".hidden"), "groups.0.after.0.run", "no name of a file"),
        (script(file="a\nb"), "groups.0.after.0.run", "no name of a file"),
        (script(timeout_s=0), "groups.0.after.0.timeout", "more than 0"),
        (script(kinds=()), "groups.0.after.0.kinds", "never run"),
    ],
)
def test_each_fault_names_its_field(plan, field, says):
    fault = next(faults(plan))
    assert fault.field == field
    assert says in fault.what


def test_scripts_are_not_run_in_tests_unless_that_is_said():
    assert PlanKind.TEST not in Script("x.sh").kinds
