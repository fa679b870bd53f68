"""Where the vault is: one place for all consoles of a database, told to agents, and never shown with its secrets."""

import threading
from dataclasses import replace
from uuid import uuid4

import pytest
from tests.vault.conftest import CHEAP

from leeward.console import vault_place
from leeward.console.alerts.sealing import Sealer
from leeward.console.vault_place import VaultPlaces
from leeward.domain.errors import BadInput, NotFound, Refused, Unavailable
from leeward.state.database import Database
from leeward.state.vault_place import PlaceFile
from leeward.vault.facade import Vault
from leeward.vault.place import Place
from leeward.vault.stores.memory import MemoryStore

SECRET = "a-secret-that-nobody-may-see"
S3 = Place("s3://bucket/x", {"access_key_id": "id", "secret_access_key": SECRET}, 5)


class Machine:
    """A console's machine: its folder, the key that it may hold, and how often others were told."""

    def __init__(self, folder, database, given=None, authority=b"a" * 32):
        self.file = PlaceFile(folder, given)
        self.keys = None
        self.told = 0
        self.now = 1_000.0
        self.held = 0
        self.places = VaultPlaces(
            database, self.file, Sealer(authority), self.load, self.tell, lambda: self.now, lambda: self.held
        )

    def load(self):
        if self.keys is None:
            raise NotFound("no key")
        return self.keys

    def tell(self):
        self.told += 1


@pytest.fixture
def database(tmp_path):
    made = Database(f"sqlite:///{tmp_path}/console.db")
    yield made
    made.close()


@pytest.fixture
def machine(tmp_path, database):
    return lambda name="one", **how: Machine(tmp_path / name, database, **how)


def test_a_place_is_chosen_once_and_stays_while_a_vault_is_in_use(machine, tmp_path):
    here = machine()
    assert here.places.choosable()
    assert here.places.choose(f"file://{tmp_path}/v", {}) is None
    assert here.told == 1
    assert here.places.choose(f"{tmp_path}/w", {}) is None
    assert here.file.url == f"{tmp_path}/w"
    here.keys = Vault.create(here.file.current().open(), "x", cost=CHEAP)[0].keys
    assert not here.places.choosable()
    with pytest.raises(Refused, match="whose place stays"):
        here.places.choose(f"{tmp_path}/v", {})
    with pytest.raises(Refused, match="no credentials"):
        here.places.renew({"secret_access_key": "x"})
    assert here.places.handed() is None, "a folder is another one on each machine"


def test_what_leeward_toml_says_is_neither_chosen_over_nor_told(machine, tmp_path):
    here = machine(given="s3://given")
    here.file.save(S3)
    with pytest.raises(Refused, match=r"leeward\.toml says"):
        here.places.choose(f"{tmp_path}/v", {})
    here.places.sync()
    assert here.places.handed() is None
    assert here.places.view().given
    assert here.told == 0


def test_the_other_console_takes_it_over_with_its_secrets(machine, database, tmp_path):
    one, other = machine(), machine("other")
    one.file.save(S3)  # by the command line
    one.places.sync()
    assert one.told == 1
    assert one.places.handed().options == S3.options
    other.places.sync()
    assert other.file.chosen() == S3
    newer = Place(S3.url, {**S3.options, "secret_access_key": "renewed"}, 6)
    other.file.save(newer)
    other.places.sync()
    one.file.save(S3)  # written anew, and older all the same
    one.places.sync()
    assert one.file.chosen() == newer
    told = one.told
    one.places.sync()
    assert one.told == told, "nothing has changed"
    for path in tmp_path.glob("console.db*"):
        assert SECRET.encode() not in path.read_bytes()
    assert SECRET not in repr(one.places.view())


def test_under_another_authority_the_secrets_cannot_be_read_and_the_console_works_all_the_same(machine):
    one, other = machine(), machine("other", authority=b"b" * 32)
    one.file.save(S3)
    one.places.sync()
    other.places.start()
    assert other.file.chosen() is None
    other.places.stop()


@pytest.mark.parametrize(
    "altered",
    [
        {"url": "s3://thief"},
        {"options": {"access_key_id": "id", "endpoint": "https://thief"}},
        {"revision": 9},
        {"secret": "", "revision": 9},
    ],
)
def test_a_row_that_somebody_has_altered_takes_no_credentials_elsewhere(machine, altered):
    one, other = machine(), machine("other")
    one.file.save(S3)
    one.places.sync()
    row = replace(one.places._book.kept(), **altered)
    other.places._book.kept = lambda: row
    with pytest.raises(Unavailable):
        other.places.sync()
    assert other.file.chosen() is None


def test_a_damaged_file_is_made_good_from_the_database(machine):
    here = machine()
    here.file.save(S3)
    here.places.sync()
    here.file.path.write_text("{")
    here.places.sync()
    assert here.file.chosen() == S3


def test_what_cannot_be_used_changes_nothing(machine, tmp_path):
    here = machine()
    (tmp_path / "file").write_text("x")
    for url in (f"{tmp_path}/file/below", "memory://x", "s3://B"):
        with pytest.raises(BadInput):
            here.places.choose(url, {"access_key_id": "a", "secret_access_key": "b"} if url[0] == "s" else {})
    assert here.file.chosen() is None
    assert here.told == 0


def test_a_key_that_cannot_be_read_is_one_all_the_same(machine):
    here = machine()

    def damaged():
        raise BadInput("damaged")

    here.places._load_keys = damaged
    assert not here.places.choosable()


def test_revisions_grow_though_the_clock_is_set_back(machine, tmp_path):
    here = machine()
    here.places.choose(f"{tmp_path}/v", {})
    first = here.file.chosen().revision
    here.now = 1.0
    here.places.choose(f"{tmp_path}/w", {})
    assert here.file.chosen().revision == first + 1


def test_what_is_chosen_counts_though_the_clock_is_behind_that_of_another_console(machine, tmp_path):
    one, other = machine(), machine("other")
    other.now = 9_000.0
    other.places.choose(f"{tmp_path}/v", {})
    one.places.choose(f"{tmp_path}/w", {})
    assert one.file.url == f"{tmp_path}/w"
    other.places.sync()
    other.file.remove()
    other.places.sync()
    assert other.file.url == f"{tmp_path}/w"


def test_what_is_written_while_both_are_made_alike_comes_into_the_database_too(machine):
    here = machine()
    newer = Place(S3.url, {**S3.options, "secret_access_key": "renewed"}, 6)
    here.file.save(S3)
    keep = here.places._book.keep

    def meanwhile(place):
        keep(place)
        if place.revision == S3.revision:
            here.file.save(newer)  # by the command line, at this very instant

    here.places._book.keep = meanwhile
    here.places.sync()
    here.places.sync()
    assert here.places._book.kept().revision == newer.revision


def test_no_other_place_is_chosen_while_a_vault_is_being_created(machine, tmp_path):
    here = machine()
    here.places.choose(f"{tmp_path}/v", {})
    refused = []

    def choose():
        try:
            here.places.choose(f"{tmp_path}/w", {})
        except Refused as error:
            refused.append(error)

    with here.places.steady():
        chooser = threading.Thread(target=choose)
        chooser.start()
        here.keys = Vault.create(here.file.current().open(), "x", cost=CHEAP)[0].keys
    chooser.join(10)
    assert len(refused) == 1
    assert here.file.url == f"{tmp_path}/v"


@pytest.mark.parametrize("found", [None, uuid4()])
def test_renewed_credentials_must_lead_to_the_vault_in_use(machine, monkeypatch, found):
    here = machine()
    here.file.save(S3)
    here.keys = Vault.create(MemoryStore(), "x", cost=CHEAP)[0].keys
    other = {"access_key_id": "new", "secret_access_key": "newer"}
    monkeypatch.setattr(vault_place, "try_place", lambda place: found)
    with pytest.raises(Refused, match="without the vault that is in use"):
        here.places.renew(other)
    assert (here.file.chosen(), here.told) == (S3, 0)
    monkeypatch.setattr(vault_place, "try_place", lambda place: here.keys.vault_id)
    here.places.renew(other)
    assert here.file.chosen().options["access_key_id"] == "new"


def test_what_is_renewed_is_newer_than_what_an_agent_got_by_a_clock_that_is_ahead(machine, monkeypatch):
    here = machine()
    here.file.save(S3)
    here.places.sync()
    here.held = 9_000_000_000_000
    monkeypatch.setattr(vault_place, "try_place", lambda place: None)
    here.places.renew({"access_key_id": "new", "secret_access_key": "newer"})
    assert here.places.handed().revision == here.held + 1
    assert here.places._book.kept().revision == here.held + 1


def test_so_is_what_the_command_line_renews_on_the_consoles_machine(machine):
    here = machine()
    here.file.save(S3)
    here.places.sync()
    here.held = 9_000_000_000_000
    here.file.supersede(Place(S3.url, {**S3.options, "secret_access_key": "newer"}), here.now)
    here.places.sync()
    assert here.places.handed().revision == here.held + 1
    assert here.places.handed().options["secret_access_key"] == "newer"
    told = here.told
    here.places.sync()
    assert here.told == told
