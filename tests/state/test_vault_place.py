"""The file that says where the vault is, and stores that follow it."""

import os
import stat

import pytest

from leeward.domain.errors import BadInput, StoreUnavailable
from leeward.state.vault_place import DEFAULT_URL, PlaceFile
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


@pytest.mark.parametrize("text", ["", "{", "[]", '{"url": "s3://x"}', '{"url": 1, "options": 2, "revision": "x"}'])
def test_a_damaged_file_is_said_to_be(tmp_path, text):
    file = PlaceFile(tmp_path)
    file.save(Place("s3://x"))
    file.path.write_text(text)
    with pytest.raises(BadInput, match="is damaged"):
        file.current()


def test_a_store_goes_over_to_the_next_place_whoever_has_written_it(tmp_path):
    one, other = LocalStore(tmp_path / "one"), LocalStore(tmp_path / "other")
    one.put("a", [b"one"])
    other.put("a", [b"other"])
    file = PlaceFile(tmp_path)
    store = file.following(0)
    file.save(Place(one.url, revision=1))
    assert (store.get("a"), store.url) == (b"one", one.url)
    PlaceFile(tmp_path).save(Place(other.url, revision=2))
    assert (store.get("a"), store.url) == (b"other", other.url)
    store.put("b", [b"x"])
    assert other.get("b") == b"x"
    file.save(Place((tmp_path / "none").as_uri(), revision=3))
    with pytest.raises(StoreUnavailable):
        store.get("a")
    os.utime(file.path)
    file.save(Place(one.url, revision=4))
    assert store.get("a") == b"one"
