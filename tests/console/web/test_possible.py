"""Every task in every state: it can be asked for, or it says why not, in every language; and what it says is true."""

import html
import itertools
import re
import time

import pytest
from tests.console.plan_world import APP, BARE, DB, FRONT
from tests.console.web.test_moves import POLICY, until, until_phase
from tests.console.web.test_rows import COPYING, POINT, a_moment, a_run, vm_status

from leeward.console.views import FailoverRequest, HostView, ReplicaView
from leeward.console.web.around import Around, Hosts, around
from leeward.console.web.language import LANGUAGES, language_named
from leeward.console.web.possible import LABELS, Act, chances, of_vm
from leeward.console.web.vault_door import VaultState
from leeward.domain.access import Role
from leeward.domain.errors import StoreUnavailable
from leeward.domain.lifecycle import Event, Phase
from leeward.domain.protection import ProtectionState

LANGUAGE = {code: language_named(code) for code in LANGUAGES}
EN, JA = LANGUAGE["en"], LANGUAGE["ja"]
WARM = ReplicaView(
    host="site2", point="7", time=POINT.time, lag_s=1.0, state="warm", reason="", bytes=1, fraction=1.0
)
AROUND = [Around(vault=vault) for vault in VaultState] + [
    Around(source=Hosts.LOST, lost=frozenset({"office"})),
    Around(recovery=Hosts.LOST, lost=frozenset({"site2"})),
    Around(recovery=Hosts.NONE),
    Around(VaultState.AWAY, Hosts.LOST, Hosts.LOST, frozenset({"office", "site2"})),
]
# What a VM may be in the middle of, beside its state and phase.
MORE = (
    {},
    {"last_point": None, "failover_possible": False},
    {"last_point": None, "failover_possible": False, "progress": COPYING},
    {"test_failover": "db-test"},
    {"replica": WARM},
)
RUNS = (None, a_run("db"), a_run("db", kind="test"), a_run("db", kind="cleanup"))


def every_chance():
    for state, phase, more in itertools.product(ProtectionState, Phase, MORE):
        status = vm_status(state=state.value, phase=phase.value, **more)
        for run, about in itertools.product(RUNS, AROUND):
            found = of_vm(status, None, run, Role.OPERATOR, about)
            assert list(found) == list(Act)
            yield from found.values()


def test_each_can_be_done_or_says_why_in_every_language():
    reasons = {chance.why for chance in every_chance() if not chance.open}
    assert len(reasons) > 20
    for why in reasons:
        english = EN.say(why)
        assert re.fullmatch(r"[A-Z].*[a-z]\.", english), english
        for code in LANGUAGES:
            said = LANGUAGE[code].say(why)
            assert said
            assert "{" not in said
            if code != "en":
                assert not re.search(r"[A-Za-z]{2,} [A-Za-z]{2,}", said), said


def test_no_task_is_closed_for_good():
    assert {chance.act for chance in every_chance() if chance.open} == set(Act)


@pytest.mark.parametrize(
    ("act", "about", "more", "reason"),
    [
        (Act.ENABLE, Around(VaultState.NONE), {"state": "disabled"}, "There is no vault yet: create it first."),
        (Act.POLICY, Around(VaultState.LOCKED), {}, "The vault is locked: unlock it first."),
        (Act.POLICY, Around(VaultState.UNKNOWN), {}, None),
        (Act.PAUSE, Around(VaultState.AWAY), {}, None),
        (Act.DISABLE, Around(VaultState.AWAY), {}, None),
        (Act.TEST, Around(VaultState.AWAY), {}, "The vault cannot be reached, and a test copy is made out of it."),
        (Act.TEST, Around(recovery=Hosts.NONE), {}, "There is no recovery host yet: integrate one first."),
        (Act.FAILOVER, Around(source=Hosts.LOST), {}, None),  # what it is there for
        (Act.FAILOVER, Around(recovery=Hosts.LOST), {}, "No recovery host can be reached."),
        (
            Act.FAILOVER,
            Around(VaultState.AWAY),
            {},
            "The vault cannot be reached, and there is no warm replica from which it could be started.",
        ),
        (Act.FAILOVER, Around(VaultState.AWAY), {"replica": WARM}, None),
        (
            Act.FAILOVER,
            Around(VaultState.AWAY, lost=frozenset({"site2"})),
            {"replica": WARM},
            "The vault cannot be reached, and there is no warm replica from which it could be started.",
        ),
        (
            Act.FAILBACK,
            Around(VaultState.AWAY),
            {"phase": "settled"},
            "The vault cannot be reached, and the way home leads through it.",
        ),
        (Act.FAILBACK, Around(source=Hosts.LOST), {"phase": "away"}, "No host of its home site can be reached."),
        (Act.FAILBACK, Around(recovery=Hosts.LOST), {"phase": "settled"}, None),  # an unplanned one
        # What the VM itself says comes first.
        (Act.FAILBACK, Around(VaultState.AWAY), {}, "It runs at its home site: fail it over first."),
    ],
)
def test_what_is_around_a_vm_counts(act, about, more, reason):
    why = of_vm(vm_status(**more), None, None, Role.OPERATOR, about)[act].why
    assert (None if why is None else EN.say(why)) == reason


def test_what_is_around_is_told_from_the_picture():
    def host(name, site, reachable):
        return HostView(name=name, site=site, uri="x", reachable=reachable, error="", vms=0)

    hosts = (host("a", "source", False), host("b", "recovery", False), host("c", "recovery", True))
    found = around(a_moment(hosts=hosts, vault=VaultState.LOCKED))
    assert found == Around(VaultState.LOCKED, Hosts.LOST, Hosts.THERE, frozenset({"a", "b"}))
    assert around(a_moment(hosts=hosts[:1])).recovery is Hosts.NONE


def tasks(pages, vm):
    """Label → ("", address) of what can be asked for, else (why, "")."""
    page = pages.get(f"/recovery?vm={vm}").text
    pane = re.search(r'<aside id="tasks".*?</aside>', page, re.S)[0]
    common = re.search(r'id="task-common">([^<]*)<', pane)
    found = {}
    for item in re.findall(r"<li>(.*?)</li>", pane, re.S):
        label = html.unescape(re.search(r"</svg><span>([^<]*)", item)[1])
        href = re.search(r'<a class="task" href="([^"]*)"', item)
        why = re.search(r'class="task-why">([^<]*)<', item) or common
        assert bool(href) is ('aria-disabled="true"' not in item), item
        found[label] = ("", html.unescape(href[1])) if href else (html.unescape(why[1]), "")
    return found


def refused(pages, vm, name, act):
    """Whether somebody whose page is old is told no."""
    form = {"vm": vm, **POLICY, "confirm": name, "point": "latest"}
    if act in (Act.ENABLE, Act.POLICY):
        return pages.post("/enable", form).status_code >= 400
    if act is Act.FAILOVER:
        return all(
            pages.post("/failover", form | {"type": kind}).status_code >= 400 for kind in ("planned", "unplanned")
        )
    if act is Act.FAILBACK:
        return pages.post("/do/failback", form | {"type": "unplanned-failback"}).status_code >= 400
    return pages.post(f"/do/{act}", form).status_code >= 400


class Walk:
    """Looks at the tasks of all VMs in each state of the world, in both languages."""

    def __init__(self, stand):
        self.stand = stand
        self.pages = {code: stand.as_role("operator", "anna", language=code) for code in LANGUAGES}

    def look(self, vm, *closed, true=()):
        """closed: what must be closed, among others. true: of these the service says no as well."""
        self.stand.watch.fresh()
        for code, pages in self.pages.items():
            language, found = LANGUAGE[code], tasks(pages, vm)
            assert list(found) == [language.say(LABELS[act]) for act in Act]
            for label, (why, href) in found.items():
                assert why or href, label
                assert code == "en" or not re.search(r"[A-Za-z]{2,} [A-Za-z]{2,}", why), why
                if href:
                    page = pages.get(href)
                    assert page.status_code == 200, (label, href)
                    assert "task-why" not in page.text.partition("<form")[0], (label, href)
            for act in closed:
                assert found[language.say(LABELS[act])][0], act
        for act in true:
            assert refused(self.pages["en"], vm, self.stand.watch.fresh().status(vm).vm, act), act


def test_as_the_list_shows_it_in_each_state_of_a_world(stand):
    world, walk = stand.world, Walk(stand)
    walk.look(DB, *(set(Act) - {Act.ENABLE}), true=(Act.TEST, Act.FAILOVER, Act.PAUSE, Act.DISABLE, Act.COMMIT))
    world.protect_all()
    walk.look(DB, Act.ENABLE, Act.RESUME, Act.COMMIT, Act.FAILBACK, Act.CLEANUP, true=(Act.COMMIT, Act.CLEANUP))
    walk.look(BARE, Act.PAUSE)
    stand.service.set_paused("db", True)
    until(lambda: stand.service.status("db")[0].state is ProtectionState.PAUSED)
    walk.look(DB, Act.PAUSE)
    stand.service.start_test("front", "latest", "anna")
    until(lambda: stand.service.test("front").done)
    walk.look(FRONT, Act.TEST, Act.DISABLE, true=(Act.TEST, Act.DISABLE))
    stand.service.failover("app", Event.PLANNED, FailoverRequest(), "anna")
    until_phase(stand, "app", Phase.AWAY)
    until(lambda: not stand.watch.fresh().open_runs)
    walk.look(APP, Act.FAILOVER, Act.DISABLE, true=(Act.FAILOVER, Act.DISABLE))
    world.open_vault_of_console = _gone
    _vault_is(stand, VaultState.AWAY)
    away = (Act.TEST, Act.FAILOVER, Act.POLICY)
    walk.look(DB, *away, true=away)
    walk.look(APP, Act.FAILBACK, true=(Act.FAILBACK,))
    walk.look(BARE, Act.ENABLE, true=(Act.ENABLE,))
    del world.open_vault_of_console
    _vault_is(stand, VaultState.OPEN)
    for link in world.links:
        link.cut = True
    until(lambda: not any(host.reachable for host in stand.watch.fresh().hosts))
    walk.look(DB, Act.TEST, Act.FAILOVER)
    walk.look(APP, Act.FAILBACK)


def _gone():
    raise StoreUnavailable("the line to the vault is cut")


def _vault_is(stand, state):
    """As the picture will have it when it has looked."""
    stand.door.state = lambda: state
    stand.watch.forget_vault()
    ends = time.monotonic() + 20
    while stand.watch.fresh().vault is not state:
        assert time.monotonic() < ends
        time.sleep(0.05)


def test_chances_are_of_the_moment():
    moment = a_moment(vm_status(), vault=VaultState.AWAY)
    found = chances(moment, moment.statuses[0], Role.OPERATOR)
    assert JA.say(found[Act.POLICY].why) == "ボールトに到達できません。"
