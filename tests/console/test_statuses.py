"""How VMs stand: what nothing new is told of is not put together again, and whatever is told shows."""

import pytest
from tests.console.test_listing import Link, copy, host, vm, wish

from leeward.console.fleet import FleetView
from leeward.console.listing import ALL
from leeward.console.statuses import Statuses
from leeward.domain.lifecycle import Event, Phase
from leeward.domain.protection import ProtectionState, ReplicaState
from leeward.state.database import Database
from leeward.state.lives import Life
from leeward.wire.messages import AgentReport, PolicyMessage, ProtectionReport, ReplicaReport, StandDownReport


class Teller(Link):
    """An agent whose facts are set by the test."""

    def __init__(self):
        super().__init__([host("h1", vm("1", "web", "h1"), vm("2", "db", "h1")), host("h2")])
        self.told, self.replicas, self.standdowns = (report(),), (), ()

    def report(self):
        return AgentReport(
            agent="a", generation=1, time="", protections=self.told, copies=self._copies,
            replicas=self.replicas, standdowns=self.standdowns,
        )  # fmt: skip


def report(**changes):
    made = ProtectionReport(
        vm_id="1", state=ProtectionState.ENABLED, reason="", progress=None, rpo_target_s=5, rpo_actual_s=0.5,
        verified_at=None, last_point=None, failover_possible=True,
    )  # fmt: skip
    return made.model_copy(update=changes)


@pytest.fixture
def database(tmp_path):
    made = Database(f"sqlite:///{tmp_path}/l.db")
    made.protect(wish("1", "web", "h1"))
    yield made
    made.close()


@pytest.fixture
def agent():
    return Teller()


@pytest.fixture
def look(database, agent):
    """look() → VM id → status, as of now."""
    statuses = Statuses(database, outlook=None)

    def made():
        everything = {one.vm_id: one for one in statuses.all(FleetView([agent]))}
        page, count = statuses.page(FleetView([agent]), ALL)
        assert {one.vm_id: one for one in page} == everything
        assert count == len(everything)
        for vm_id, one in everything.items():
            assert statuses.few(FleetView([agent]), [vm_id])[0] == [one]
        few = statuses.few(FleetView([agent]), [*everything, "of nobody"])[0]
        assert sorted(few, key=lambda one: one.vm_id) == sorted(everything.values(), key=lambda one: one.vm_id)
        view = FleetView([agent])
        assert statuses.few(view, list(everything))[1] == [vm for vm in statuses.all_vms(view) if vm.id in everything]
        return everything

    made.statuses = statuses
    return made


def test_of_which_nothing_new_is_told_is_the_same_but_for_its_age(look, agent):
    before = look()
    agent.told = (report(),)
    again = look()
    assert again["1"] is before["1"]
    assert again["2"] is before["2"]
    agent.age_s = 3.0
    older = look()
    assert older["1"].rpo_actual_s == 3.5
    assert older["1"] == before["1"].model_copy(update={"rpo_actual_s": 3.5})
    assert older["1"].model_dump_json() == before["1"].model_copy(update={"rpo_actual_s": 3.5}).model_dump_json()
    assert before["1"].rpo_actual_s == 0.5
    assert older["2"] is before["2"]
    agent.age_s = 0.0
    assert look()["1"].rpo_actual_s == 0.5


def test_an_age_that_is_not_known_does_not_grow(look, agent):
    agent.told, agent.age_s = (report(rpo_actual_s=None),), 9.0
    assert look()["1"].rpo_actual_s is None


def test_whatever_is_told_shows(look, agent, database):
    assert look()["1"].state is ProtectionState.ENABLED
    agent.told = (report(state=ProtectionState.ERROR, reason="disk full"),)
    assert (look()["1"].state, look()["1"].reason) == (ProtectionState.ERROR, "disk full")
    agent.told = ()
    assert look()["1"].reason == "starting"
    agent.told = (report(),)

    database.protect(wish("1", "web", "h1").model_copy(update={"paused": True, "policy": PolicyMessage(warm="h2")}))
    assert look()["1"].policy.warm == "h2"
    assert look()["1"].replica.state == "unknown"
    agent.replicas = (ReplicaReport(vm_id="1", host="h2", state=ReplicaState.WARM, point="7"),)
    assert look()["1"].replica.state == "warm"

    agent.standdowns = (StandDownReport(vm_id="1", vm_name="web", host="h2", reason="moved", note="it had run"),)
    assert look()["1"].reason == "h2: it had run"
    agent.standdowns = ()

    agent._copies = (copy("1", "9"),)
    assert look()["1"].test_failover == "t"
    agent._copies = ()
    assert look()["1"].test_failover is None

    database.lives.move(Life("1", "web", Phase.HOME, "h1"), Event.PLANNED, away="h2")
    assert (look()["1"].phase, look()["1"].away) == ("failing-over", "h2")


def test_vms_come_and_go(look, agent, database):
    assert set(look()) == {"1", "2"}
    agent._hosts = [host("h1", vm("1", "web", "h1"), vm("3", "mail", "h1"))]
    assert set(look()) == {"1", "3"}
    agent._hosts = [host("h1", vm("3", "mail", "h1"))]
    found = look()
    assert set(found) == {"1", "3"}
    assert found["1"].reason == "the VM is not on its host now"
    database.unprotect("1")
    assert set(look()) == {"3"}
    assert [(one.id, one.protected) for one in look.statuses.all_vms(FleetView([agent]))] == [("3", False)]
    database.protect(wish("3", "mail", "h1"))
    assert [(one.id, one.protected) for one in look.statuses.all_vms(FleetView([agent]))] == [("3", True)]
    agent._hosts = [host("h1", vm("3", "post", "h1"))]
    assert look()["3"].vm == "post"
    assert [one.name for one in look.statuses.all_vms(FleetView([agent]))] == ["post"]


def test_a_host_says_that_it_cannot_use_the_vaults_place(world, monkeypatch):
    assert {host.trouble for host in world.service.hosts()} == {""}
    told = "it cannot use the vault's place that it was told"
    monkeypatch.setattr(FleetView, "place_trouble", lambda view, host: told if host == "recovery" else "")
    shown = {host.name: (host.reachable, host.trouble) for host in world.service.hosts()}
    assert shown["recovery"] == (True, told)
    assert all(trouble == "" for name, (_, trouble) in shown.items() if name != "recovery")
