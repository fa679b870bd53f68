"""Where the vault is, as the console tells it: only to enrolled agents that do not know it themselves."""

import json
import shutil
import stat
import time
from dataclasses import replace

import pytest
from pydantic import ValidationError
from tests.console.stand import until
from tests.vault.conftest import CHEAP

from leeward.agent.channel import Channel, Refusal
from leeward.agent.enrolment import leave
from leeward.agent.identity import authority_context, load_identity, tls_context
from leeward.agent.keys import save_keys
from leeward.agent.place_look import PlaceLook
from leeward.agent.remote import AgentClient
from leeward.console.fleet import Fleet
from leeward.domain.errors import NotFound, Refused
from leeward.recovery.records import CopyRecord, CopyRecords
from leeward.state.vault_place import PlaceFile
from leeward.vault.facade import Vault
from leeward.vault.place import Place
from leeward.vault.stores.local import LocalStore
from leeward.wire.messages import PlaceMessage
from leeward.wire.polls import Orders, Poll

SECRET = "a-secret-that-nobody-may-see"


class Told:
    """What the console has to tell; may change."""

    def __init__(self):
        self.place = None

    def say(self, revision, secret=SECRET, url="s3://bucket/x"):
        # Agents look there: at a port where nobody is.
        options = {"access_key_id": "id", "secret_access_key": secret, "endpoint": "http://127.0.0.1:9"}
        self.place = PlaceMessage(revision=revision, url=url, options=options)
        return self.place


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def stand(make_stand, told):
    return make_stand(place=lambda: told.place)


@pytest.fixture
def enrolled(stand, make_host):
    host = make_host()
    host.enrol(stand.token())
    host.place = PlaceFile(host.folder)
    return host


def ask(stand, host, place, certificate=True):
    identity = load_identity(host.folder)
    context = tls_context(identity) if certificate else authority_context(identity.authority)
    channel = Channel(stand.address, lambda: context)
    poll = Poll(run="r", wait_s=0, generation=0, place=place)
    try:
        return Orders.model_validate_json(channel.ask("POST", "/agent/poll", poll.model_dump_json().encode(), 10))
    finally:
        channel.close()


def test_an_agent_is_told_and_told_again_when_it_changes(stand, enrolled, told):
    told.say(10)
    enrolled.start(place=enrolled.place)
    found = until(enrolled.place.chosen)
    assert (found.url, found.options["secret_access_key"], found.revision) == ("s3://bucket/x", SECRET, 10)
    assert stat.S_IMODE(enrolled.place.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(enrolled.place.path.parent.stat().st_mode) == 0o700
    told.say(11, "renewed")
    stand.agents.wake()  # not a poll later: at once
    until(lambda: enrolled.place.chosen().options["secret_access_key"] == "renewed", 5)
    told.say(9, "older")
    stand.agents.wake()
    time.sleep(0.5)
    assert enrolled.place.chosen().revision == 11


def test_who_knows_it_himself_is_told_nothing(stand, enrolled, told):
    told.say(10)
    assert ask(stand, enrolled, None).place is None
    assert ask(stand, enrolled, 0).place == told.place
    assert ask(stand, enrolled, 10).place is None


def test_nobody_else_is_told(stand, enrolled, told):
    told.say(10)
    with pytest.raises(Refusal, match="certificate is needed"):
        ask(stand, enrolled, 0, certificate=False)
    stand.agents.revoke("office")
    with pytest.raises(Refusal, match="revoked"):
        ask(stand, enrolled, 0)


def test_a_revoked_agent_works_on_with_what_it_has_and_hears_nothing_new(stand, enrolled, told):
    told.say(10)
    enrolled.start(place=enrolled.place)
    until(enrolled.place.chosen)
    stand.agents.revoke("office")
    told.say(11, "renewed")
    enrolled.refused()
    assert enrolled.place.chosen().revision == 10


def test_a_damaged_file_is_told_anew(stand, enrolled, told):
    told.say(10)
    enrolled.place.save(Place("s3://x"))
    enrolled.place.path.write_text("{")
    enrolled.start(place=enrolled.place)
    until(lambda: enrolled.place.path.read_text() != "{")
    assert enrolled.place.chosen().revision == 10


def test_another_consoles_place_is_forgotten_with_it(stand, make_stand, enrolled):
    enrolled.place.save(Place("s3://bucket", {"secret_access_key": SECRET}, 10))
    enrolled.enrol(stand.token(name="office"))  # again with the same one
    assert enrolled.place.chosen() is not None
    other = make_stand("other")
    enrolled.enrol(other.token())
    assert enrolled.place.chosen() is None


def test_who_leaves_takes_nothing_along(stand, enrolled):
    enrolled.place.save(Place("s3://bucket", {"secret_access_key": SECRET}, 10))
    assert leave(enrolled.folder) == stand.address
    assert enrolled.place.chosen() is None
    with pytest.raises(NotFound):
        leave(enrolled.folder)
    for path in enrolled.folder.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes()


def test_nobody_leaves_while_vms_read_from_the_vault(enrolled):
    records = CopyRecords(enrolled.folder / "copy" / "recovery")
    copy = CopyRecord("v", "web", "test", "7", "t", "web-test", "recovery")
    records.save(copy)
    enrolled.place.save(Place("s3://bucket", {}, 10))
    with pytest.raises(Refused, match="still read from the vault: web-test"):
        leave(enrolled.folder)
    assert enrolled.place.chosen() is not None
    records.save(replace(copy, hydrated=True))
    leave(enrolled.folder)


def test_the_console_is_told_that_an_agent_cannot_use_the_place(stand, enrolled, told):
    told.say(10)
    enrolled.start(place=enrolled.place)
    trouble = until(lambda: stand.agents.views()[0].trouble, 20)
    assert "s3://bucket/x: the vault's place that was told cannot be used: the store does not answer" in trouble
    assert "See that this host reaches that server" in trouble
    assert Fleet(stand.agents.links).view().place_trouble("office") == trouble
    assert SECRET not in trouble
    save_keys(enrolled.folder, enrolled.vault.keys)
    enrolled.place.save(Place(str(enrolled.folder / "vault"), {}, 11))
    until(lambda: stand.agents.views()[0].trouble == "", 20)


def test_an_agent_looks_whether_its_own_vault_is_at_the_place(enrolled, tmp_path):
    look = PlaceLook(enrolled.place, enrolled.folder)
    look.look(0)
    assert look.trouble == ""  # nothing was told
    strange, empty = tmp_path / "strange", tmp_path / "empty"
    Vault.create(LocalStore(strange), "x", cost=CHEAP)
    LocalStore(empty)
    enrolled.place.save(Place(str(strange), {}, 10))
    look.look(1)
    assert look.trouble == ""  # which vault is its own is not known before it is unlocked
    save_keys(enrolled.folder, enrolled.vault.keys)
    for seconds, (folder, said) in enumerate(((strange, "another vault"), (empty, "no vault")), 2):
        enrolled.place.save(Place(str(folder), {}, 10 + seconds))
        look.look(seconds)
        assert said in look.trouble
        assert "Enrol this host" in look.trouble
    Vault.create(LocalStore(tmp_path / "v"), "x", cost=CHEAP)
    enrolled.place.save(Place(str(enrolled.folder / "vault"), {}, 20))
    look.look(5)
    assert look.trouble == ""


def test_what_cannot_be_reached_is_looked_at_again(enrolled, tmp_path):
    save_keys(enrolled.folder, enrolled.vault.keys)
    away = tmp_path / "away"
    enrolled.place.save(Place(str(away), {}, 10))
    look = PlaceLook(enrolled.place, enrolled.folder)
    look.look(0)
    assert look.trouble
    shutil.copytree(enrolled.folder / "vault", away)
    look.look(20)
    assert look.trouble  # not all the time
    look.look(31)
    assert look.trouble == ""


def test_an_agent_of_the_version_before_is_understood(stand, enrolled, told):
    told.say(10)
    channel = Channel(stand.address, lambda: tls_context(load_identity(enrolled.folder)))

    def say(path, message, version):
        message["version"] = version
        return json.loads(channel.ask("POST", path, json.dumps(message).encode(), 10))

    report = {"version": 3, "agent": "office", "generation": 0, "time": "", "protections": []}
    tell = {"run": "r", "numbers": {"report": 1}, "report": report}
    poll = {"run": "r", "wait_s": 0, "generation": 0, "place": 0}
    assert say("/agent/tell", tell, 3)["want"] == []
    assert say("/agent/poll", poll, 3)["place"]["revision"] == 10
    with pytest.raises(Refusal, match="speaks version 2"):
        say("/agent/poll", poll, 2)
    channel.close()


def test_the_console_knows_how_new_the_place_of_an_agent_is(stand, enrolled, told):
    told.say(10)
    ask(stand, enrolled, 7)
    assert stand.agents.newest_place() == 7
    assert stand.agents.views()[0].trouble == ""
    ask(stand, enrolled, 12)
    assert stand.agents.newest_place() == 12
    assert "renew them here" in stand.agents.views()[0].trouble
    ask(stand, enrolled, 1 << 62)
    assert stand.agents.newest_place() == 0
    told.say(13)
    assert ask(stand, enrolled, 12).place.revision == 13
    ask(stand, enrolled, None)
    assert stand.agents.newest_place() == 0


def test_an_answer_that_was_under_way_does_not_undo_what_came_meanwhile(enrolled, told):
    enrolled.place.save(Place("s3://bucket", {}, 11))  # by the command line, on this host
    client = AgentClient(enrolled.folder, None, place=enrolled.place)
    client._carry_out(None, Orders(place=told.say(10)))
    assert enrolled.place.chosen().revision == 11
    client._carry_out(None, Orders(place=told.say(12)))
    assert enrolled.place.chosen().revision == 12


def test_a_folder_is_never_told_and_no_secret_is_shown():
    with pytest.raises(ValidationError):
        PlaceMessage(revision=1, url="file:///vault")
    message = Told().say(1)
    for shown in (message, Orders(place=message), Place(message.url, message.options)):
        assert SECRET not in repr(shown) + str(shown)
    assert not Orders(place=message).empty
