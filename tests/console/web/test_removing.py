"""A host that was added by clicks is taken away by clicks, by the API, and not while anything needs it."""

import html
import re

import pytest
from tests.console.plan_world import DB
from tests.console.stand import Host
from tests.console.web.stand import Stand
from tests.console.web.test_moves import beside, until, until_phase
from tests.loopback import free_port

from leeward.agent.added_hosts import added_hosts
from leeward.agent.ledger import StandDown
from leeward.console.agent_views import TokenRequest
from leeward.console.views import FailoverRequest, ProtectRequest
from leeward.domain.lifecycle import Event, Phase
from leeward.ports.recovery_provider import Wanted
from leeward.wire.tokens import read_token

pytestmark = pytest.mark.usefixtures("quick")

TEST = "6695eb01-f6a4-8304-79aa-97f2502e193f"  # the VM of libvirt's test driver
ASK = "/hosts/remove?host=north"


@pytest.fixture
def north(tmp_path):
    """This machine was made the recovery host north by clicks."""
    made = Stand(tmp_path, agents_port=free_port())
    made.own.start()
    made.here.integrate(Wanted("north", "recovery", str(tmp_path / "images")))
    yield made
    made.own.stop()
    made.close()


def remove(pages, host="north", confirm=None):
    return pages.post("/hosts/remove", {"host": host, "confirm": host if confirm is None else confirm})


def words(answer):
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", answer.text)).split())


def hosts(stand):
    return {host.name for host in stand.service.hosts()}


def kept(stand):
    return [host.name for host in added_hosts(stand.folder / "own")]


def test_it_is_removed_with_its_name_typed(north):
    admin = north.as_role("admin", "anna")
    assert re.findall(r"/hosts/remove[^\"]*", admin.get("/hosts").text) == [ASK]
    page = admin.get(ASK)
    assert "the host and its VMs leave the lists" in page.text
    assert "only recovery host" not in page.text
    wrong = remove(admin, confirm="south")
    assert wrong.status_code == 422
    assert html.unescape(beside(wrong, "confirm")) == "Type the host's name, north, to confirm."
    assert 'value="south"' in wrong.text
    assert (kept(north), "north" in hosts(north)) == (["north"], True)
    assert remove(admin).headers["hx-redirect"] == "/hosts"
    assert (kept(north), "north" in hosts(north)) == ([], False)
    assert 'id="host-north"' not in admin.get("/hosts").text
    assert "host removed" in admin.get("/").text
    event = north.service.events(1)[0]
    assert (event["what"], event["subject"], event["who"], event["detail"]) == (
        "host removed",
        "north",
        "anna",
        "recovery",
    )
    done = [(row["who"], row["subject"], row["outcome"]) for row in north.audit() if row["what"] == "remove host"]
    assert done == [("anna", "north", "done"), ("anna", "north", "refused")]
    assert admin.get(ASK).status_code == remove(admin).status_code == 404
    # It can be added again, and then once more removed.
    north.here.integrate(Wanted("north", "source"))
    assert remove(admin).status_code == 204


@pytest.mark.parametrize("role", ["operator", "viewer"])
def test_who_is_no_admin_removes_nothing(north, role):
    pages = north.as_role(role)
    assert "/hosts/remove" not in pages.get("/hosts").text
    assert pages.get(ASK).status_code == remove(pages).status_code == 403
    assert north.user("carl", role).delete("/hosts/north").status_code == 403
    assert north.anyone.delete("/hosts/north").status_code == 401
    assert kept(north) == ["north"]


def test_by_the_api(north):
    anna = north.user("anna", "admin")
    answer = anna.delete("/hosts/north")
    assert (answer.status_code, answer.json()) == (200, {"host": "north", "state": "removed"})
    gone = anna.delete("/hosts/north")
    assert gone.status_code == 404
    assert gone.json()["error"]["hint"] == "Known hosts: office, recovery"
    done = [(row["who"], row["subject"], row["outcome"]) for row in north.audit() if row["what"] == "remove host"]
    assert done == [("anna", "north", "refused"), ("anna", "north", "done")]


def protected(stand):
    stand.service.protect("test", ProtectRequest())
    yield "VMs are protected there: test", "Disable their replication first.", f"/do/disable?vm={TEST}"
    stand.service.unprotect("test")


def warm(stand):
    stand.world.protect_all()
    stand.service.protect("db", ProtectRequest(warm="north"))
    yield "policies want warm replicas there: db", "Let them be kept at another host", f"/enable?vm={DB}"
    stand.service.protect("db", ProtectRequest(warm=False))


def standing_down(stand):
    stand.own.agent._ledger.stand_down(StandDown(TEST, "test", "north", "it runs at office"))
    yield "VMs are kept off there: test", "they could run twice", f"/recovery?vm={TEST}"
    stand.own.agent.stand_up(TEST, "north")


def moved(stand):
    """Its run has come to nothing there; until that is taken back the VM is between its hosts."""
    stand.world.protect_all()
    stand.service.failover("db", Event.PLANNED, FailoverRequest(to="north"), "anna")
    until(lambda: stand.service.last_run("db").state == "stalled")
    yield "runs that need it are under way: db", "Wait until they are over", "/runs"
    stand.service.cancel("db")
    until_phase(stand, "db", Phase.HOME)
    until(lambda: stand.service.last_run("db").state == "undone")
    until(lambda: not stand.own.jobs.jobs())


@pytest.mark.parametrize("way", [protected, warm, standing_down, moved])
def test_it_is_refused_while_it_is_needed_and_what_to_do_is_said(north, way):
    story = way(north)
    what, hint, href = next(story)
    admin, anna = north.as_role("admin"), north.user("bert", "admin")
    page = admin.get(ASK)
    assert "It cannot be removed yet." in words(page)
    assert hint in words(page)
    assert f'href="{html.escape(href)}"' in page.text
    assert 'name="confirm"' not in page.text
    assert remove(admin).status_code == 409
    refused = anna.delete("/hosts/north")
    assert refused.status_code == 409
    assert what in refused.json()["error"]["message"]
    assert refused.json()["error"]["hint"]
    assert (kept(north), "north" in hosts(north)) == (["north"], True)
    row = next(row for row in north.audit() if row["what"] == "remove host" and row["who"] == "bert")
    assert (row["outcome"], row["detail"]) == ("refused", what)
    next(story, None)
    assert remove(admin).status_code == 204, words(admin.get(ASK))
    assert kept(north) == []


def test_what_the_console_has_not_seen_its_agent_has(north, monkeypatch):
    """A stand-down that the agent came to by itself just now."""
    look = north.removal.look

    def before(host):
        seen = look(host)
        north.own.agent._ledger.stand_down(StandDown(TEST, "test", "north", "it runs at office"))
        return seen

    monkeypatch.setattr(north.removal, "look", before)
    answer = remove(north.as_role("admin"))
    assert answer.status_code == 409
    assert "VMs are kept off there: test" in words(answer)
    assert kept(north) == ["north"]


def test_hosts_of_the_configuration_say_where_they_stand(north):
    north.here._configured = frozenset(["north"])
    north.here._file = "/etc/leeward/leeward.toml"
    admin = north.as_role("admin")
    listed = admin.get("/hosts")
    assert "stands in /etc/leeward/leeward.toml" in words(listed)
    assert "/hosts/remove" not in listed.text
    page = words(admin.get(ASK))
    assert "It cannot be removed here. It stands in /etc/leeward/leeward.toml" in page
    assert "Take its [[host]] section out of that file and start the console anew." in page
    assert remove(admin).status_code == 409
    told = north.user("anna", "admin").delete("/hosts/north").json()["error"]
    assert told["message"] == "it stands in /etc/leeward/leeward.toml"
    assert "[[host]]" in told["hint"]
    assert kept(north) == ["north"]


def test_hosts_of_other_agents_go_with_these(north, tmp_path):
    kvm = Host(tmp_path / "kvm01", "kvm01")
    kvm.enrol(read_token(north.agents.new_token(TokenRequest(name="kvm01")).token))
    kvm.start()
    try:
        until(lambda: "kvm01" in hosts(north))
        admin = north.as_role("admin")
        assert "host=kvm01" not in re.sub(r"/recovery\?host=kvm01", "", admin.get("/hosts").text)
        (link,) = north.agents.links()
        page = admin.get("/hosts/remove?host=kvm01")
        assert "An agent on a machine of its own has it: kvm01." in words(page)
        assert f'href="/hosts/agents/{link.id}/revoke"' in page.text
        assert remove(admin, "kvm01").status_code == 409
        told = north.user("anna", "admin").delete("/hosts/kvm01").json()["error"]
        assert told["hint"] == "Revoke that: `leeward agents revoke kvm01`"
    finally:
        kvm.stop()


def test_the_only_recovery_host_goes_with_a_warning(tmp_path):
    made = Stand(tmp_path)
    made.own.start()
    try:
        made.world.protect_all()
        made.world.fleet._links = lambda: [made.world.links[0], made.own.link]
        made.here.integrate(Wanted("north", "recovery", str(tmp_path / "images")))
        admin = made.as_role("admin")
        assert "It is the only recovery host." in words(admin.get(ASK))
        assert remove(admin).status_code == 204
        assert {status.vm for status in made.service.status() if status.policy} == {"app", "db", "front"}
    finally:
        made.own.stop()
        made.close()


def test_who_protects_a_vm_while_its_host_goes_sees_an_error_until_that_is_ended(north, monkeypatch):
    write = north.service._database.protect

    def after_it_went(wish):
        north.removal.remove("north")
        write(wish)

    monkeypatch.setattr(north.service._database, "protect", after_it_went)
    north.service.protect("test", ProtectRequest())
    monkeypatch.undo()
    assert kept(north) == []
    (status,) = north.service.status("test")
    assert (status.state, status.host) == ("error", "north")
    north.service.unprotect("test")
    assert "test" not in {status.vm for status in north.service.status()}
