"""The Hosts page: agents with their hosts, and revoking one."""

import html
import re

import pytest
from tests.console.stand import Host
from tests.console.web.stand import Stand
from tests.loopback import free_port

from leeward.console.agent_views import AgentView, TokenRequest
from leeward.console.views import HostView
from leeward.console.web.host_rows import agent_lines
from leeward.console.web.rows import Level
from leeward.wire.tokens import read_token

pytestmark = pytest.mark.usefixtures("quick")

TAKEN = 1_800_000_000.0  # 2027-01-15T08:00:00Z


def agent(name="kvm01", **more):
    values = {
        "name": name,
        "agent_id": f"id-{name}",
        "present": True,
        "heard": "2027-01-15T08:00:00Z",
        "software": "0.1.0",
        "hosts": [name],
        "protected": 2,
        "generation": 3,
        "enrolled": "2027-01-01T08:00:00Z",
        "certificate_expires": "2027-04-01T08:00:00Z",
        "revoked": "",
        "trouble": "",
    }
    return AgentView(**{**values, **more})


def host(name, **more):
    values = {"name": name, "site": "source", "uri": "x", "reachable": True, "error": "", "vms": 4}
    return HostView(**{**values, **more})


class Moment:
    taken = TAKEN
    statuses = ()

    def __init__(self, *hosts):
        self.hosts = hosts


def test_hosts_stand_under_their_agents_and_the_consoles_own_comes_first():
    lines = agent_lines(Moment(host("kvm01"), host("north", site="recovery")), [agent()], "desk", "0.1.0")
    assert [(line.name, line.own, [one.name for one in line.hosts]) for line in lines] == [
        ("desk", True, ["north"]),
        ("kvm01", False, ["kvm01"]),
    ]
    assert lines[1].vms == 4
    assert not lines[0].revocable
    assert agent_lines(Moment(), [], "desk", "0.1.0") == []


@pytest.mark.parametrize(
    ("changes", "level", "text"),
    [
        ({}, Level.GOOD, "Connected"),
        ({"trouble": "its clock"}, Level.WARN, "Connected, with trouble"),
        ({"present": False}, Level.BAD, "Does not answer"),
        ({"present": False, "heard": "", "hosts": []}, Level.BUSY, "Enrolled, not heard of yet"),
        ({"present": False, "revoked": "by hand"}, Level.OFF, "Revoked"),
    ],
)
def test_how_an_agent_is(changes, level, text):
    (line,) = agent_lines(Moment(host("kvm01")), [agent(**changes)], "desk", "0.1.0", revoked=True)[-1:]
    assert (line.level, line.state.text) == (level, text)
    assert line.revocable is ("revoked" not in changes)


@pytest.mark.parametrize(
    ("expires", "ending"),
    [
        ("2027-04-01T08:00:00Z", None),
        ("2027-02-03T08:00:00Z", Level.WARN),
        ("2027-01-15T08:00:00Z", Level.BAD),
        ("", None),
    ],
)
def test_certificates_that_end_soon_are_told(expires, ending):
    (line,) = agent_lines(Moment(), [agent(certificate_expires=expires)], "desk", "0.1.0")
    assert line.ending is ending


def test_revoked_agents_are_shown_where_they_are_asked_for():
    agents = [agent(), agent("old", revoked="replaced")]
    assert [line.name for line in agent_lines(Moment(), agents, "desk", "0.1.0")] == ["kvm01"]
    assert [line.name for line in agent_lines(Moment(), agents, "desk", "0.1.0", True)] == ["kvm01", "old"]


@pytest.fixture
def stand(tmp_path):
    made = Stand(tmp_path, agents_port=free_port())
    made.kvm = Host(tmp_path / "kvm01", "kvm01")
    made.kvm.enrol(read_token(made.agents.new_token(TokenRequest(name="kvm01")).token))
    made.kvm.start()
    made.world.wait(lambda: "kvm01" in {host.name for host in made.service.hosts()})
    yield made
    made.kvm.stop()
    made.close()


def test_hosts_are_listed_with_what_is_known_of_their_agents(stand):
    page = stand.as_role("viewer").get("/hosts").text
    text = re.sub(r"<[^>]+>|\s+", " ", page)
    for words in ("kvm01", "Connected", "Certificate until", "office", "recovery", "Works in the console"):
        assert words in text
    assert 'id="host-kvm01"' in page
    assert "Revoke this agent" not in page
    assert 'href="/hosts#host-office"' in stand.as_role("viewer").get("/recovery").text


def test_an_agent_is_revoked_with_its_name_typed(stand):
    admin = stand.as_role("admin", "anna")
    (link,) = stand.agents.links()
    path = f"/hosts/agents/{link.id}/revoke"
    assert f'href="{path}"' in admin.get("/hosts").text
    assert "replicates on what it was told last" in admin.get(path).text
    wrong = admin.post(path, {"confirm": "kvm02"})
    assert wrong.status_code == 422
    assert "Type the agent's name, kvm01, to confirm." in html.unescape(wrong.text)
    assert 'value="kvm02"' in wrong.text
    assert stand.agents.links() == [link]
    assert admin.post(path, {"confirm": "kvm01"}).headers["hx-redirect"] == "/hosts"
    assert stand.agents.links() == []
    assert "kvm01" not in admin.get("/hosts").text.replace("revoked=true", "")
    assert "Revoked" in admin.get("/hosts?revoked=true").text
    assert admin.get(path).status_code == admin.post(path, {"confirm": "kvm01"}).status_code == 404
    done = [(row["what"], row["subject"], row["outcome"]) for row in stand.audit() if row["what"] == "revoke agent"]
    assert ("revoke agent", "kvm01", "done") in done
    assert ("revoke agent", "kvm01", "refused") in done


def test_who_is_no_admin_revokes_nothing(stand):
    (link,) = stand.agents.links()
    for role in ("viewer", "operator"):
        browser = stand.as_role(role)
        assert browser.get(f"/hosts/agents/{link.id}/revoke").status_code == 403
        assert browser.post(f"/hosts/agents/{link.id}/revoke", {"confirm": "kvm01"}).status_code == 403
    assert stand.agents.links() == [link]


def test_an_agent_that_does_not_answer_is_found_from_home(stand):
    stand.kvm.stop()
    stand.kvm.client = None
    admin = stand.as_role("admin")
    stand.world.wait(lambda: "Does not answer" in admin.get("/hosts").text)
    page = admin.get("/").text
    assert "Host kvm01 cannot be reached." in page
    assert 'href="/hosts#host-kvm01"' in page
