"""Integrating recovery step by step, with the real scanner against machines on loopback and real agents over TLS."""

import html
import re
import time
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
from tests.console.stand import VM, Host
from tests.console.web.stand import Stand
from tests.loopback import free_port
from tests.network.discovery import strangers as st

from leeward.agent.added_hosts import added_hosts
from leeward.console.discovery_api import scan_view
from leeward.console.integration import Integration
from leeward.console.picks import PickState, free_name
from leeward.domain.access import Role
from leeward.network.discovery.scans import Finding, Scans
from leeward.network.discovery.signs import Door, LibvirtFacts, Sign, Speech
from leeward.network.discovery.signs import Role as DoorRole
from leeward.network.discovery.verdicts import judge
from leeward.state.integrations import Integrations
from leeward.wire.tokens import read_token

WAY = "/services/recovery"
PLACE = {"place": "here", "name": "north", "network": "network:default"}


@pytest.fixture
def crowd():
    crowd = st.Strangers()
    yield crowd
    crowd.close()


@contextmanager
def console(folder, doors):
    made = Stand(folder, doors=doors, agents_port=free_port(), empty=True)
    made.own.start()
    yield made
    made.own.stop()
    made.close()


@pytest.fixture
def fresh(tmp_path, crowd):
    """A console that knows no host. On 127.0.0.1 there is a machine with SSH."""
    with console(tmp_path, [Door(crowd.add(st.says(b"SSH-2.0-OpenSSH_9.2\r\n")), DoorRole.SSH)]) as made:
        yield made


@pytest.fixture(scope="module")
def same(tmp_path_factory):
    """For tests in which nothing can be done, so that everything stays: this machine could be a host."""
    with console(tmp_path_factory.mktemp("same"), []) as made:
        made.admin = made.as_role("admin", "anna")
        yield made


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """The same, where this machine is the host north, and two hosts are picked."""
    folder = tmp_path_factory.mktemp("begun")
    with console(folder, []) as made:
        made.admin = made.as_role("admin", "anna")
        made.admin.post(f"{WAY}/place", {**PLACE, "storage": str(folder / "images")})
        for host in ("10.77.0.9", "other"):
            made.admin.post(f"{WAY}/scan/add", {"host": host})
        yield made


@pytest.fixture
def admin(fresh):
    return fresh.as_role("admin", "anna")


def scanned(admin, ranges="127.0.0.1"):
    answer = admin.post(f"{WAY}/scan", {"ranges": ranges})
    assert answer.headers.get("hx-redirect") == f"{WAY}/scan", answer.text
    ends = time.monotonic() + 15
    while "Cancel the scan" in (page := admin.get(f"{WAY}/scan").text):
        assert time.monotonic() < ends
        time.sleep(0.05)
    return page


def beside(page, field):
    """What stands beside a field that was filled in wrongly."""
    return html.unescape(re.search(rf'id="why-{field}">(.*?)</p>', page, re.S)[1])


def shown_token(page):
    return read_token(re.search(r"lw1-[\w-]+", page)[0])


# --- the way as a whole -------------------------------------------------------------------------------------


def test_from_nothing_to_hosts_with_vms(fresh, admin, tmp_path):
    assert f'href="{WAY}/place">Begin' in admin.get(WAY).text
    assert "A host whose VMs are to be protected" in admin.get("/services").text
    answer = admin.post(f"{WAY}/place", {**PLACE, "storage": str(tmp_path / "images")})
    assert answer.headers["hx-redirect"] == f"{WAY}/scan"
    assert [(host.name, host.site, host.reachable) for host in fresh.service.hosts()] == [("north", "recovery", True)]
    assert f'href="{WAY}/scan">Continue' in admin.get(WAY).text
    page = scanned(admin)
    assert "machine with an SSH server (OpenSSH_9.2)" in page
    answer = admin.post(f"{WAY}/scan/pick", {"address": "127.0.0.1"})
    assert answer.headers["hx-redirect"] == f"{WAY}/hosts"
    assert "No agent yet" in admin.get(f"{WAY}/hosts").text
    page = admin.post(f"{WAY}/host/127.0.0.1/token", {"name": "kvm01", "site": "source"}).text
    assert "Waiting for its agent" in page
    host = Host(tmp_path / "kvm01", "kvm01")
    try:
        host.enrol(shown_token(page))
        assert "Enrolled, has not told of its VMs yet" in admin.get(f"{WAY}/hosts").text
        host.start()
        fresh.world.wait(lambda: "Enrolled – VMs: 1" in admin.get(f"{WAY}/hosts").text)
        assert "kvm01 is here. Its hosts: kvm01" in admin.get(f"{WAY}/host/127.0.0.1").text
        done = admin.get(f"{WAY}/done").text
        assert 'href="/recovery?show=disabled"' in done
        assert VM in admin.get("/recovery?show=disabled").text
        assert "Enabled" in admin.get("/services").text
    finally:
        host.stop()
    happened = [event["what"] for event in fresh.service.events(20)]
    for what in ("host added", "network scan begun", "agent token made", "agent enrolled"):
        assert what in happened
    audited = [(row["what"], row["subject"], row["outcome"]) for row in fresh.audit()]
    for what, subject in (
        ("choose place", "north"),
        ("begin scan", "127.0.0.1"),
        ("pick hosts", "127.0.0.1"),
        ("make agent token", "127.0.0.1"),
    ):
        assert (what, subject, "done") in audited


def test_what_was_done_is_kept_for_whoever_goes_on_later(fresh, admin, tmp_path):
    scanned(admin)
    admin.post(f"{WAY}/scan/pick", {"address": "127.0.0.1"})
    admin.post(f"{WAY}/scan/add", {"host": "kvm02.office.example"})
    admin.post(f"{WAY}/host/127.0.0.1/token", {"name": "kvm01", "site": "recovery"})
    another = fresh.as_role("admin", "ben")
    page = another.get(f"{WAY}/hosts").text
    assert "Waiting for its agent" in page
    assert "kvm02" in page
    restarted = Integration(fresh.database, fresh.agents, Scans())
    progress = restarted.progress()
    assert [(pick.name, pick.site) for pick in progress.picks] == [("kvm01", "recovery"), ("kvm02", "source")]
    assert restarted.scan().findings[0].address == "127.0.0.1"


def test_a_scan_that_died_with_the_console_is_told(fresh, admin, crowd):
    fresh.scans._doors = (Door(crowd.add(st.mute), DoorRole.LIBVIRT),)
    admin.post(f"{WAY}/scan", {"ranges": "127.0.0.1"})
    fresh.scans.cancel(fresh.scans.all()[0].id)
    fresh.scans._scans.clear()
    assert "The last scan was lost" in admin.get(f"{WAY}/scan").text


def test_who_is_no_admin_sees_how_far_it_is_and_changes_nothing(fresh):
    for role in (Role.VIEWER, Role.OPERATOR):
        browser = fresh.as_role(role)
        page = browser.get(WAY).text
        assert "An administrator can do this." in page
        assert f'href="{WAY}/place"' not in page
        assert browser.get(f"{WAY}/place").status_code == 403
        assert browser.post(f"{WAY}/scan", {"ranges": "127.0.0.1"}).status_code == 403
    assert fresh.scans.all() == []


# --- where VMs are to be recovered --------------------------------------------------------------------------


def test_places_that_cannot_be_chosen_say_why(fresh, admin, tmp_path):
    page = admin.get(f"{WAY}/place").text
    assert re.search(r'value="azure" disabled', page)
    assert "this version cannot bring VMs up there" in page
    assert re.search(r'value="here" checked', page)
    assert '<option value="network:default">Network default' in page
    for place in ("azure", "moon", ""):
        answer = admin.post(f"{WAY}/place", {**PLACE, "place": place, "name": "kept"})
        assert (answer.status_code, "Choose a place." in answer.text) == (422, True)
        assert 'value="kept"' in answer.text
    admin.post(f"{WAY}/place", {**PLACE, "storage": str(tmp_path / "images")})
    page = admin.get(f"{WAY}/place").text
    assert "a host already" in html.unescape(page)
    assert re.search(r'value="here" disabled', page)


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"name": ""}, "name", "Fill this in"),
        ({"name": "a b"}, "name", "A name has letters"),
        ({"storage": ""}, "storage", "Fill this in"),
        ({"storage": "images"}, "storage", "Write the folder from the root on"),
        ({"storage": "/proc/none"}, "storage", "cannot be written to"),
        ({"network": "bridge:none"}, "network", "no such network"),
    ],
)
def test_a_wrong_field_is_told_beside_it_and_nothing_is_lost(same, tmp_path, changes, field, words):
    form = {**PLACE, "storage": str(tmp_path / "images"), **changes}
    answer = same.admin.post(f"{WAY}/place", form)
    assert answer.status_code == 422
    assert words in beside(answer.text, field)
    for name in ("name", "storage"):
        assert f'value="{form[name]}"' in answer.text
    assert same.service.hosts() == []
    assert added_hosts(same.folder / "own") == ()


def test_another_host_may_be_the_place_and_this_machine_a_source(fresh, admin):
    assert admin.post(f"{WAY}/place", {"place": "agent"}).headers["hx-redirect"] == f"{WAY}/scan"
    admin.post(f"{WAY}/scan/add", {"host": "10.77.0.9"})
    page = admin.get(f"{WAY}/host/10.77.0.9").text
    assert re.search(r'value="recovery" checked', page)  # there is no other yet
    assert "Protect VMs of this machine" in admin.get(f"{WAY}/hosts").text
    assert "Fill this in" in beside(admin.post(f"{WAY}/hosts/here", {"name": ""}).text, "name")
    assert admin.post(f"{WAY}/hosts/here", {"name": "office"}).status_code == 204
    assert [(host.name, host.site) for host in fresh.service.hosts()] == [("office", "source")]
    assert "It is the host office already" in admin.get(f"{WAY}/hosts").text
    shown = admin.post(f"{WAY}/host/10.77.0.9/token", {"name": "north", "site": "recovery"}).text
    assert 'storage = "/var/lib/leeward/images"' in html.unescape(shown)


# --- finding hosts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ranges", "words"),
    [
        ("", "Fill this in"),
        ("10.0.0.0/8", "more than 4,096 addresses"),
        ("224.0.0.1", "multicast"),
        ("10.0.0.9-3", "does not go upwards"),
        ("127.0.0.1, 10.0.0.300", "10.0.0.300"),
        ("<b>", "neither an address range nor a host name"),
    ],
)
def test_ranges_that_cannot_be_scanned_are_told_and_kept(same, ranges, words):
    answer = same.admin.post(f"{WAY}/scan", {"ranges": ranges})
    assert answer.status_code == 422
    assert words in beside(answer.text, "ranges")
    assert f'value="{html.escape(ranges)}"' in answer.text
    assert same.scans.all() == []


def test_a_scan_is_watched_and_cancelled(fresh, admin, crowd):
    fresh.scans._doors = (*fresh.scans._doors, Door(crowd.add(st.mute), DoorRole.LIBVIRT))
    admin.post(f"{WAY}/scan", {"ranges": "127.0.0.1-200"})
    page = admin.get(f"{WAY}/scan").text
    assert f'hx-sse:connect="{WAY}/scan/live"' in page
    second = admin.post(f"{WAY}/scan", {"ranges": "127.0.0.1"})
    assert (second.status_code, "Another scan is running" in second.text) == (409, True)
    fresh.world.wait(lambda: "machine with an SSH server" in admin.get(f"{WAY}/scan").text)
    assert admin.post(f"{WAY}/scan/cancel").headers["hx-redirect"] == f"{WAY}/scan"
    page = admin.get(f"{WAY}/scan").text
    assert "The scan was cancelled" in page
    assert "hx-sse:connect" not in page  # a page that is chosen from must not change under the reader's hands
    assert 'value="127.0.0.1" id="pick-127.0.0.1"' in page
    assert admin.post(f"{WAY}/scan/cancel").status_code == 204  # twice does no harm


def test_what_cannot_be_protected_says_why_and_cannot_be_picked(fresh, admin, crowd):
    fresh.scans._doors = (Door(crowd.add(st.windows), DoorRole.WINRM),)
    page = scanned(admin)
    assert "Windows with remote management" in page
    assert "Not supported" in page
    assert "this version protects the VMs of libvirt hosts with QEMU/KVM only" in page
    assert 'name="address"' not in page
    answer = admin.post(f"{WAY}/scan/pick", {"address": "127.0.0.1"})
    assert answer.status_code == 422
    assert "protects the VMs of libvirt hosts" in answer.text
    unknown = admin.post(f"{WAY}/scan/pick", {"address": "10.9.9.9"})
    assert "the scan has not found this" in unknown.text


def test_a_libvirt_that_lets_everybody_in_is_told_as_a_danger(fresh, admin):
    scanned(admin)
    facts = LibvirtFacts(("none",), True, "", (9, 0, 0), (7, 2, 0), "kvm01")
    sign = Sign(Door(16509, DoorRole.LIBVIRT), Speech.LIBVIRT, "sign-in: none", libvirt=facts)
    found = Finding(ip_address("10.77.0.31"), "kvm01", (sign,), judge([sign]))
    look = replace(fresh.scans.all()[0], findings=(found,))
    progress = Integration(fresh.database, fresh.agents, fresh.scans).progress()
    changed = progress.model_copy(update={"scan": scan_view(look)}).model_dump_json()
    Integrations(fresh.database).change("recovery", lambda _: changed)
    page = admin.get(f"{WAY}/scan").text
    for words in ("QEMU/KVM (libvirt 9.0.0, QEMU 7.2.0)", "Supported", "16509 libvirt", "close port 16509"):
        assert words in page


@pytest.mark.parametrize(
    ("host", "words"),
    [("", "Fill this in"), ("10.0.0.0/24", "give one address"), ("a b", "give one address"), ("-x", "neither")],
)
def test_a_host_that_cannot_be_named_is_told(same, host, words):
    answer = same.admin.post(f"{WAY}/scan/add", {"host": host})
    assert answer.status_code == 422
    assert words in beside(answer.text, "host")
    assert f'value="{host}"' in answer.text


def test_picks_are_let_go_of_when_they_are_unchosen_but_not_when_a_token_was_made(fresh, admin):
    scanned(admin)
    admin.post(f"{WAY}/scan/pick", {"address": "127.0.0.1"})
    admin.post(f"{WAY}/scan/add", {"host": "fd00::5"})
    admin.post(f"{WAY}/scan/pick")
    page = admin.get(f"{WAY}/hosts").text
    assert f'href="{WAY}/host/fd00%3A%3A5"' in page
    assert f'href="{WAY}/host/127.0.0.1"' not in page
    assert "host-fd00-5" in admin.get(f"{WAY}/host/fd00%3A%3A5").text
    admin.post(f"{WAY}/scan/pick", {"address": "127.0.0.1"})
    admin.post(f"{WAY}/host/127.0.0.1/token", {"name": "kvm01", "site": "source"})
    admin.post(f"{WAY}/scan/pick")
    assert f'href="{WAY}/host/127.0.0.1"' in admin.get(f"{WAY}/hosts").text
    assert admin.post(f"{WAY}/host/127.0.0.1/drop").headers["hx-redirect"] == f"{WAY}/hosts"
    assert admin.get(f"{WAY}/host/127.0.0.1").status_code == 404


@pytest.mark.parametrize(
    ("told", "address", "name"),
    [
        ("kvm01.office.example", "10.0.0.1", "kvm01"),
        ("", "10.0.0.1", "host-10-0-0-1"),
        ("10.0.0.1", "10.0.0.1", "host-10-0-0-1"),
        ('k"v\nm', "10.0.0.1", "kvm"),
        ("---", "fe80::1%eth0", "host-fe80-1-eth0"),
        ("taken", "10.0.0.1", "taken-2"),
    ],
)
def test_names_that_are_proposed(told, address, name):
    assert free_name(told, address, ["taken"]) == name


# --- tokens -------------------------------------------------------------------------------------------------


@pytest.fixture
def picked(admin):
    admin.post(f"{WAY}/scan/add", {"host": "10.77.0.9"})
    return f"{WAY}/host/10.77.0.9"


def test_a_token_is_shown_once_and_is_nowhere_else(fresh, admin, picked):
    page = html.unescape(admin.post(f"{picked}/token", {"name": "kvm01", "site": "source"}).text)
    secret = str(shown_token(page))
    assert f"printf '%s\\n' {secret} | /opt/leeward/.venv/bin/leeward agent enrol -" in page
    assert 'name = "kvm01"' in page
    assert "ssh root@10.77.0.9" in page
    assert "The vault is a folder of this machine" in page
    again = admin.get(picked).text
    assert "lw1-" not in again
    assert "The token was shown once" in again
    for file in fresh.folder.rglob("*"):
        if file.is_file():
            assert secret.encode() not in file.read_bytes(), file
    assert "lw1-" not in str(fresh.audit())


def test_a_token_that_nobody_used_expires(fresh, admin, picked):
    admin.post(f"{picked}/token", {"name": "kvm01", "site": "source"})
    (now,) = standings_of(fresh)
    assert now.state is PickState.WAITING
    assert 3500 < now.left_s <= 3600
    later = Integration(fresh.database, fresh.agents, fresh.scans, lambda: _in_two_hours())
    (then,) = later.standings()
    assert (then.state, then.left_s) == (PickState.EXPIRED, None)


def standings_of(stand):
    return Integration(stand.database, stand.agents, stand.scans).standings()


def _in_two_hours():
    return datetime.now(UTC) + timedelta(hours=2)


@pytest.mark.parametrize(
    ("form", "field", "words"),
    [
        ({"name": "", "site": "source"}, "name", "Fill this in"),
        ({"name": "x y", "site": "source"}, "name", "A name has letters"),
        ({"name": "north", "site": "source"}, "name", "A host of this name exists"),
        ({"name": "other", "site": "source"}, "name", "Another host in the list has this name"),
        ({"name": "kvm01", "site": "moon"}, "site", "Choose a site"),
    ],
)
def test_a_token_needs_a_free_name_and_a_site(begun, form, field, words):
    answer = begun.admin.post(f"{WAY}/host/10.77.0.9/token", form)
    assert answer.status_code == 422
    assert words in beside(answer.text, field)
    assert f'name="name" type="text" value="{form["name"]}"' in answer.text
    assert standings_of(begun)[0].state is PickState.NEW


def test_a_host_enrols_again_in_its_own_place_and_under_no_other_name(fresh, admin, picked, tmp_path):
    """What came behind its enrolment may have failed."""
    page = admin.post(f"{picked}/token", {"name": "kvm01", "site": "source"}).text
    host = Host(tmp_path / "kvm01", "kvm01")
    try:
        host.enrol(shown_token(page))
        host.start()
        fresh.world.wait(lambda: "Enrolled – VMs: 1" in admin.get(f"{WAY}/hosts").text)
        answer = admin.post(f"{picked}/token", {"name": "dr1", "site": "source"})
        assert answer.status_code == 422
        assert "An agent of another name is on this host" in beside(answer.text, "name")
        for _ in range(2):  # the first of these is never used
            page = admin.post(f"{picked}/token", {"name": "kvm01", "site": "recovery"}).text
            token = shown_token(page)
        host.enrol(token)
        fresh.world.wait(lambda: "Enrolled – VMs: 1" in admin.get(f"{WAY}/hosts").text)
    finally:
        host.stop()
    assert [(view.name, bool(view.revoked)) for view in fresh.agents.views()] == [("kvm01", False), ("kvm01", True)]
    fresh.agents.revoke("kvm01")
    assert "lw1-" in admin.post(f"{picked}/token", {"name": "dr1", "site": "source"}).text


def test_the_name_of_another_hosts_agent_cannot_be_had(fresh, admin, picked, tmp_path):
    page = admin.post(f"{picked}/token", {"name": "kvm01", "site": "source"}).text
    Host(tmp_path / "kvm01", "kvm01").enrol(shown_token(page))
    admin.post(f"{WAY}/scan/add", {"host": "10.77.0.10"})
    answer = admin.post(f"{WAY}/host/10.77.0.10/token", {"name": "kvm01", "site": "source"})
    assert answer.status_code == 422
    assert "An agent or host of this name exists" in beside(answer.text, "name")


def test_a_console_that_does_not_listen_says_what_to_do(tmp_path):
    deaf = Stand(tmp_path, empty=True)
    admin = deaf.as_role("admin")
    try:
        place = admin.get(f"{WAY}/place").text
        assert re.search(r'value="agent" disabled', place)
        admin.post(f"{WAY}/scan/add", {"host": "10.77.0.9"})
        page = admin.get(f"{WAY}/host/10.77.0.9").text
        assert "this console does not listen for agents" in page
        assert "agents_listen" in page
        answer = admin.post(f"{WAY}/host/10.77.0.9/token", {"name": "kvm01", "site": "source"})
        assert answer.status_code == 409
    finally:
        deaf.close()
