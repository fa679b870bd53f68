"""Scenario files: read strictly, and told what is wrong by the field."""

import pytest

from leeward.domain.errors import BadInput, NotFound
from leeward.lab.scenario import steps
from leeward.lab.scenario.acting import told
from leeward.lab.scenario.document import read_scenario, shipped

GOOD = """
name: burns
shows: the office burns
guests:
  web: {ip: 10.77.0.9, disks: [64]}
steps:
  - burn: office
  - cut: {from: office, to: cloud, both: yes}
  - heal
  - kill: [console, office agent]
  - kill: portal
  - pass: 1.5s
  - failover: {vm: web, kind: unplanned, within: 2m}
  - commit: web
  - expect: {vm: web, primary: nowhere}
"""


def written(tmp_path, text):
    file = tmp_path / "one.yaml"
    file.write_text(text)
    return file


def test_a_scenario_as_people_write_it(tmp_path):
    scenario = read_scenario(written(tmp_path, GOOD))
    assert (scenario.name, scenario.guests["web"].disks) == ("burns", (64,))
    assert scenario.steps == (
        steps.Burn(site="office"),
        steps.Cut(**{"from": "office", "to": "cloud"}, both=True),
        steps.Heal(),
        steps.Kill(what=("console", "office agent")),
        steps.Kill(what=("portal",)),
        steps.Pass(time=1.5),
        steps.Failover(vm="web", kind="unplanned", within=120),
        steps.Commit(vm="web"),
        steps.Expect(vm="web", primary="nowhere"),
    )
    assert [told(step) for step in scenario.steps] == [
        "burn office",
        "cut office ↔ cloud",
        "heal",
        "kill console and office agent",
        "kill portal",
        "pass 1.5",
        "failover web kind unplanned",
        "commit web",
        "expect web primary nowhere",
    ]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("burn: office", "burn: cellar", "steps.0: burn: site: input should be 'office' or 'recovery'"),
        ("burn: office", "burns: office", "steps.0: there is no step 'burns'; there are: ask, burn,"),
        ("burn: office", "{burn: office, heal: {}}", "steps.0: a step is one word with its fields"),
        ("both: yes", "speed: 3", "steps.1: cut: speed: there is no such field"),
        ("to: cloud, ", "", "steps.1: cut: to: it is missing"),
        ("- heal", "- cut", "steps.2: cut: from: it is missing"),
        ("1.5s", "soon", "steps.5: pass: time: 'soon' is not a duration; write it like 30s or 2m"),
        ("1.5s", "0", "steps.5: pass: time: input should be greater than 0"),
        ("commit: web", "commit: mail", "steps.7: commit: 'mail' is not among the guests"),
        ("name: burns", "name: Burns!", "name: string should match pattern"),
        ("shows: the office burns", "", "shows: it is missing"),
        ("disks: [64]", "disk: 64", "guests.web.disk: there is no such field"),
        (GOOD, "steps: [heal", "this is not YAML"),
        (GOOD, "- heal", "a scenario has a name and steps"),
        (
            "expect: {vm: web, primary: nowhere}",
            "two primaries: {vm: web, allowed: yes}",
            "steps.8: two primaries: say because of what",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_field(tmp_path, old, new, says):
    assert old in GOOD
    with pytest.raises(BadInput) as raised:
        read_scenario(written(tmp_path, GOOD.replace(old, new)))
    assert raised.value.message.startswith(says), raised.value.message
    assert raised.value.subject == str(tmp_path / "one.yaml")


def test_guests_have_addresses_of_their_own(tmp_path):
    twice = GOOD.replace("guests:\n", "guests:\n  mail: {ip: 10.77.0.9}\n")
    with pytest.raises(BadInput, match="guests: two guests have one address"):
        read_scenario(written(tmp_path, twice))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(NotFound):
        read_scenario(tmp_path / "none.yaml")


def test_all_that_come_with_leeward_can_be_read():
    assert shipped()
    for path in shipped():
        assert read_scenario(path).name == path.stem
