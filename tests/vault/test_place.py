"""Whether a place is fit for a vault is tried there, not believed."""

import pytest
from tests.vault.conftest import CHEAP

from leeward.domain.errors import BadInput, ObjectRetained, Refused, StoreError, StoreUnavailable
from leeward.vault import place as places
from leeward.vault.check import check
from leeward.vault.facade import Vault
from leeward.vault.place import Place, place_of, try_place, with_credentials
from leeward.vault.stores.memory import MemoryStore

KEYS = {"access_key_id": "id", "secret_access_key": "secret"}


class Odd(MemoryStore):
    """kind: of its oddity."""

    def __init__(self, kind):
        super().__init__("odd")
        self.kind = kind

    def put(self, key, parts):
        if self.kind == "overwrites" and key in self._objects:
            return
        super().put(key, parts)

    def get(self, key):
        return super().get(key) + (b"!" if self.kind == "alters" else b"")

    def scan(self, prefix, start_after=""):
        return iter(()) if self.kind == "hides" else super().scan(prefix, start_after)

    def delete(self, key):
        if self.kind == "retains":
            raise ObjectRetained("kept", subject=key)
        if self.kind != "keeps":
            super().delete(key)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("overwrites", "conditional writes"),
        ("alters", "something else"),
        ("hides", "does not list"),
        ("keeps", "does not delete"),
    ],
)
def test_a_store_that_does_not_keep_the_rules_is_refused(kind, words):
    with pytest.raises(Refused, match=words):
        places._probe(Odd(kind))


def test_a_store_that_keeps_what_it_has_is_fit_and_what_is_left_is_no_damage():
    store = Odd("retains")
    places._probe(store)
    Vault.create(store, "x", cost=CHEAP)
    assert any(info.key.startswith("probe/") for info in store.scan(""))
    assert check(store).sound


def test_a_folder_is_as_it_was(tmp_path):
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "a" / "b", tmp_path / "empty"):
        assert try_place(Place(folder.as_uri())) is None
    assert list(tmp_path.rglob("*")) == [tmp_path / "empty"]
    there = tmp_path / "there"
    vault = Vault.create(Place(there.as_uri()).open(), "x", cost=CHEAP)[0]
    before = sorted(there.rglob("*"))
    assert try_place(Place(there.as_uri())) == vault.id
    assert sorted(there.rglob("*")) == before


@pytest.mark.parametrize(
    ("url", "options", "subject"),
    [
        ("s3://bucket", {**KEYS, "ca_file": "/etc/shadow"}, "ca_file"),
        ("s3://bucket", {**KEYS, "region": True}, "region"),
        ("s3://bucket", {**KEYS, "allow_http": "yes"}, "allow_http"),
        ("s3://bucket", {**KEYS, "account": "x"}, "account"),
        ("s3://Bucket", KEYS, "s3://Bucket"),
        ("/folder", KEYS, "access_key_id"),
        ("memory://x", {}, "memory://x"),
        ("ftp://x", {}, "ftp://x"),
        ("folder", {}, "folder"),
        ("azure://container", {"account_key": "x"}, "azure://container"),
    ],
)
def test_what_makes_no_sense_is_refused(monkeypatch, url, options, subject):
    for name in ("AWS_ACCESS_KEY_ID", "AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(BadInput) as refused:
        place_of(url, options)
    assert refused.value.subject == subject


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("s3://[x", KEYS),
        ("file://[x/", {}),
        ("/srv/\0v", {}),
        ("file:///srv/%00v", {}),
        ("/srv/\ud800", {}),
        ("/srv/line\nbreak", {}),
        ("s3://bucket", {**KEYS, "access_key_id": "a\nb"}),  # obstore would panic
        ("s3://bucket", {**KEYS, "access_key_id": "schlüssel"}),
        ("s3://bucket", {**KEYS, "secret_access_key": "\ud800"}),
        ("s3://bucket", {**KEYS, "ca": "garbage"}),
        ("s3://bucket", {**KEYS, "endpoint": "http://[x"}),
        ("s3://bucket", {**KEYS, "endpoint": "https://host:99999999"}),
        ("s3://bucket", {**KEYS, "endpoint": "https://my host:9000"}),  # obstore would panic
        ("s3://bucket", {**KEYS, "endpoint": "https://host:9000/<x>"}),
    ],
)
def test_what_was_typed_badly_is_no_error_of_ours(url, options):
    with pytest.raises(BadInput) as refused:
        place_of(url, options)
    str(refused.value).encode()


@pytest.mark.parametrize(
    "endpoint",
    ["https://id:hidden@host", "https://host/?sv=1&sig=hidden", "https://host/#hidden", "https://hidden@host"],
)
def test_an_endpoint_holds_no_credentials_since_everybody_sees_it(endpoint):
    with pytest.raises(BadInput, match="must have no login") as refused:
        place_of("s3://bucket", {**KEYS, "endpoint": endpoint})
    assert "hidden" not in repr(refused.value) + str(refused.value)


def test_a_name_that_is_too_long_is_told_as_such():
    with pytest.raises(StoreError):
        try_place(place_of("/tmp/" + "a" * 300, {}))


def test_credentials_are_replaced_as_a_whole():
    now = place_of("azure://box/x", {"account": "acme", "account_key": "b2xk", "endpoint": "https://e"}, 3)
    renewed = with_credentials(now, {"sas_token": "sv=1&sig=x"})
    assert renewed == Place(now.url, {"account": "acme", "endpoint": "https://e", "sas_token": "sv=1&sig=x"}, 3)
    with pytest.raises(BadInput, match="none of the credentials"):
        with_credentials(now, {"account": "other"})


def test_a_place_that_is_silent_is_told_at_once():
    with pytest.raises(StoreUnavailable):
        try_place(Place("s3://bucket", {**KEYS, "endpoint": "http://127.0.0.1:9"}))
