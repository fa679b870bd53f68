"""The file that says where the vault is, and stores that follow it."""

import os
import stat
from pathlib import Path

import pytest
from tests.vault.conftest import CHEAP

from leeward.domain.errors import BadInput, StoreUnavailable
from leeward.state.vault_place import DEFAULT_URL, PlaceFile
from leeward.vault.facade import Vault
from leeward.vault.place import Place
from leeward.vault.stores.local import LocalStore

SECRET = "a-secret-that-nobody-may-see"


def test_what_leeward_toml_says_counts_more(tmp_path):
    file = PlaceFile(tmp_path)
    assert file.url == DEFAULT_URL
    assert file.chosen() is None
    file.save(Place("s3://bucket/x", {"region": "eu", "secret_access_key": SECRET}, 7))
    assert PlaceFile(tmp_path).current() == Place("s3://bucket/x", {"region": "eu", "secret_access_key": SECRET}, 7)
    assert PlaceFile(tmp_path, "file:///given").url == "file:///given"
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert SECRET not in repr(file.current())
    file.remove()
    file.remove()
    assert file.url == DEFAULT_URL


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"url": "s3://x"}',
        '{"url": 1, "options": 2, "revision": "x"}',
        '{"url": "s3://x", "options": {"region": null}, "revision": 5}',
    ],
)
def test_a_damaged_file_is_said_to_be(tmp_path, text):
    file = PlaceFile(tmp_path)
    file.save(Place("s3://x"))
    file.path.write_text(text)
    with pytest.raises(BadInput, match="is damaged"):
        file.current()


@pytest.fixture
def homes(tmp_path):
    """homes(name): the folder of a vault; those whose names begin alike are copies of one."""
    made = {}

    def home(name):
        store = LocalStore(tmp_path / name)
        if name[0] not in made:
            made[name[0]] = Vault.create(store, "x", cost=CHEAP)[0].id, store.get("keyring/00000001")
        else:
            store.put("keyring/00000001", [made[name[0]][1]])
        store.put("a", [name.encode()])
        return store, made[name[0]][0]

    return home


def test_a_store_goes_over_to_the_next_place_whoever_has_written_it(tmp_path, homes):
    (one, vault), (other, _) = homes("v1"), homes("v2")
    file = PlaceFile(tmp_path)
    store = file.following(0, vault)
    file.save(Place(one.url, revision=1))
    assert (store.get("a"), store.url) == (b"v1", one.url)
    PlaceFile(tmp_path).save(Place(other.url, revision=2))
    assert (store.get("a"), store.url) == (b"v2", other.url)
    store.put("b", [b"x"])
    assert other.get("b") == b"x"
    file.save(Place((tmp_path / "none").as_uri(), revision=3))
    with pytest.raises(StoreUnavailable):
        store.get("a")
    os.utime(file.path)
    file.save(Place(one.url, revision=4))
    assert store.get("a") == b"v1"


def test_it_goes_to_no_place_with_another_vault_or_none(tmp_path, homes):
    (one, vault), (strange, _) = homes("v1"), homes("w1")
    empty = LocalStore(tmp_path / "empty")
    empty.put("x", [b""])
    file = PlaceFile(tmp_path)
    file.save(Place(one.url, revision=1))
    store = file.following(0, vault)
    assert store.get("a") == b"v1"
    for revision, other in enumerate((strange, empty), 2):
        file.save(Place(other.url, revision=revision))
        store.put(f"log/{revision}", [b"x"])
        assert one.get(f"log/{revision}") == b"x"
        assert [info.key for info in other.scan("log/")] == []


def test_what_is_open_stays_when_the_file_is_removed_or_damaged(tmp_path, homes):
    one, vault = homes("v1")
    file = PlaceFile(tmp_path)
    file.save(Place(one.url, revision=1))
    store = file.following(0, vault)
    assert store.get("a") == b"v1"
    file.path.write_text("{")
    assert store.get("a") == b"v1"
    file.remove()
    assert store.get("a") == b"v1"


def test_who_is_not_root_is_told_that_he_may_not_read_it(tmp_path, monkeypatch):
    file = PlaceFile(tmp_path)
    file.save(Place("s3://x"))

    def closed(path, **_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", closed)
    with pytest.raises(BadInput, match="may not be read"):
        _ = file.url
