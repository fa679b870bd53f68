"""Choosing where the vault goes by clicks, and its credentials, against real servers on this machine."""

import base64
import hashlib
import hmac
import json
import re
import socket
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pytest
from tests.console.web.stand import Stand
from tests.vault.stores.conftest import ACCOUNT, ACCOUNT_KEY, azure_server, s3_server

from leeward.console.web.kept_secrets import KeptSecrets
from leeward.console.web.vault_door import VaultState
from leeward.vault.facade import Vault

__all__ = ["azure_server", "s3_server"]
PHRASE = "an unforgettable passphrase"
SECRET = "a-secret-that-nobody-may-see"
NEW = {"passphrase": PHRASE, "again": PHRASE}


@pytest.fixture
def fresh(tmp_path):
    """A console whose leeward.toml says nothing of the vault."""
    made = Stand(tmp_path, place=None)
    yield made
    made.close()


@pytest.fixture
def admin(fresh):
    return fresh.as_role("admin")


def s3_form(server, name, **changes):
    return {
        "kind": "s3",
        "s3_bucket": server.url.removeprefix("s3://"),
        "s3_prefix": name,
        "s3_endpoint": server.options["endpoint"],
        "s3_region": "us-east-1",
        "s3_access_key_id": "AKIDEXAMPLE",
        "s3_secret_access_key": SECRET,
        **changes,
    }


def azure_form(server, name, **changes):
    return {
        "kind": "azure",
        "azure_account": ACCOUNT,
        "azure_container": server.url.removeprefix("azure://"),
        "azure_prefix": name,
        "azure_endpoint": server.options["endpoint"],
        "azure_sign": "key",
        "azure_account_key": server.options["account_key"],
        **changes,
    }


def sas(container):
    """A service SAS of the container, made by hand as Microsoft documents it."""
    ends = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    version = "2020-12-06"
    fields = ["racwdl", "", ends, f"/blob/{ACCOUNT}/{container}", "", "", "", version, "c", *[""] * 7]
    digest = hmac.new(base64.b64decode(ACCOUNT_KEY), "\n".join(fields).encode(), hashlib.sha256).digest()
    signature = base64.b64encode(digest).decode()
    return "?" + urlencode({"sp": "racwdl", "se": ends, "sv": version, "sr": "c", "sig": signature})


def why(page, field):
    found = re.search(rf'id="why-{field}">(.*?)</p>', page.text, re.S)
    assert found, page.text[page.text.find("<h1>") :][:1500]
    return found[1]


def ticket(page):
    return re.search(r'name="kept" value="([^"]*)"', page.text)[1]


def everything(stand):
    """All that the console has written for people: audit log, history."""
    return str(stand.audit()) + str(stand.local.get("/events").json())


# --- a folder -----------------------------------------------------------------------------------------------


def test_the_first_steps_ask_where_the_vault_goes_before_its_passphrase(fresh, admin, tmp_path):
    assert admin.get("/first-steps/vault").headers["location"] == "/first-steps/place"
    page = admin.get("/first-steps/place")
    assert "Where does the vault go?" in page.text
    assert 'value="/var/lib/leeward/vault"' in page.text
    folder = tmp_path / "there" / "vault"
    answer = admin.post("/first-steps/place", {"kind": "folder", "folder": str(folder), "act": "use"})
    assert answer.headers["hx-redirect"] == "/first-steps/vault"
    page = admin.get("/first-steps/vault")
    assert f"file://{folder}" in page.text
    assert "Choose another place" in page.text
    assert admin.post("/first-steps/vault", NEW).status_code == 200
    assert fresh.door.state() is VaultState.OPEN
    assert (folder / "keyring").is_dir()
    assert not (folder / "probe").exists()
    assert admin.get("/first-steps/place").headers["location"] == "/first-steps/vault"
    assert "vault place chosen" in everything(fresh)


def test_a_check_of_a_folder_leaves_nothing_behind(admin, tmp_path):
    answer = admin.post("/first-steps/place", {"kind": "folder", "folder": f"{tmp_path}/a/b", "act": "check"})
    assert "This place works." in answer.text
    assert f'value="{tmp_path}/a/b"' in answer.text
    assert not (tmp_path / "a").exists()
    assert admin.get("/first-steps/vault").headers["location"] == "/first-steps/place"


@pytest.mark.parametrize(
    ("form", "field", "words"),
    [
        ({"kind": "folder", "folder": ""}, "folder", "Fill this in"),
        ({"kind": "folder", "folder": "srv/vault"}, "folder", "whole path"),
        ({"kind": "folder", "folder": "/proc/vault"}, "folder", ""),
        ({"kind": ""}, "kind", "Choose one"),
        ({"kind": "s3", "s3_bucket": "b"}, "s3_access_key_id", "Fill this in"),
        ({"kind": "azure", "azure_sign": "sas"}, "azure_sas_token", "Fill this in"),
        ({"kind": "azure", "azure_sign": "application"}, "azure_client_secret", "Fill this in"),
        ({"kind": "azure", "azure_sign": "guess"}, "azure_sign", "Choose one"),
    ],
)
def test_what_cannot_be_used_is_said_beside_its_field(admin, form, field, words):
    answer = admin.post("/first-steps/place", {**form, "act": "use"})
    assert answer.status_code >= 400
    assert words in why(answer, field)
    assert why(answer, field).rpartition("</svg>")[2][0].isupper()
    for name, value in form.items():
        if value and name not in ("kind", "azure_sign"):
            assert f'value="{value}"' in answer.text


def test_what_leeward_toml_says_counts_and_is_said_to(stand):
    admin = stand.as_role("admin")
    assert admin.get("/first-steps/place").headers["location"] == "/first-steps/vault"
    answer = admin.post("/first-steps/place", {"kind": "folder", "folder": "/srv/vault", "act": "use"})
    assert answer.status_code == 409
    assert "leeward.toml says where the vault is" in answer.text
    assert "leeward.toml of this console says so" in admin.get("/vault").text
    assert admin.get("/vault/credentials").headers["location"] == "/vault"


# --- S3 -----------------------------------------------------------------------------------------------------


@pytest.mark.cloudstore
def test_a_vault_in_s3_by_clicks_alone(fresh, admin, s3_server):
    form = s3_form(s3_server, "clicks")
    answer = admin.post("/first-steps/place", {**form, "act": "check"})
    assert "This place works." in answer.text
    assert SECRET not in answer.text
    assert fresh.place.chosen() is None
    # The page has no secret; what it sends along in its place is enough.
    again = {**form, "s3_secret_access_key": "", "kept": ticket(answer), "act": "use"}
    assert admin.post("/first-steps/place", again).headers["hx-redirect"] == "/first-steps/vault"
    assert admin.post("/first-steps/vault", NEW).status_code == 200
    assert fresh.door.state() is VaultState.OPEN
    store = fresh.place.following(0, fresh.key.keys.vault_id)
    assert Vault.open(store, passphrase=PHRASE).id == fresh.key.keys.vault_id
    assert [info.key for info in store.scan("")] == ["keyring/00000001"]
    page = admin.get("/vault").text
    assert f"{s3_server.url}/clicks" in page
    assert "AKIDEXAMPLE" in page
    assert SECRET not in page + everything(fresh)
    assert oct(fresh.place.path.stat().st_mode)[-3:] == "600"
    databases = list(fresh.folder.glob("*.db*"))
    assert databases
    for name in databases:
        assert SECRET.encode() not in name.read_bytes()
    viewer = fresh.as_role("viewer").get("/vault").text
    assert "AKIDEXAMPLE" not in viewer


@pytest.mark.cloudstore
def test_a_vault_that_is_there_already_is_unlocked(fresh, admin, s3_server):
    form = s3_form(s3_server, "there")
    admin.post("/first-steps/place", {**form, "act": "use"})
    admin.post("/first-steps/vault", NEW)
    fresh.key.keys = None
    assert "There is a vault already" in admin.post("/first-steps/place", {**form, "act": "check"}).text
    assert admin.post("/first-steps/place", {**form, "act": "use"}).status_code == 204
    assert "Unlock the vault" in admin.get("/first-steps/vault").text
    assert admin.post("/first-steps/vault/unlock", {"secret": PHRASE}).headers["hx-redirect"] == "/"


@pytest.mark.cloudstore
@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"s3_bucket": "no-such-bucket"}, "s3_bucket", "does not exist"),
        ({"s3_bucket": "No Bucket"}, "s3_bucket", "name is not valid"),
        ({"s3_prefix": "With Capitals"}, "s3_prefix", ""),
        ({"s3_endpoint": "s3.example.com"}, "s3_endpoint", "Write an address"),
        ({"s3_endpoint": "http://192.0.2.7:9000"}, "s3_endpoint", "no TLS"),
        ({"s3_endpoint": "silent"}, "s3_endpoint", "does not answer"),
        ({"s3_ca": "-----BEGIN"}, "s3_ca", "no certificate"),
    ],
)
def test_what_s3_does_not_take_is_said_beside_its_field(fresh, admin, s3_server, changes, field, words):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    if changes.get("s3_endpoint") == "silent":
        changes = {"s3_endpoint": f"http://127.0.0.1:{port}"}
    form = s3_form(s3_server, "wrong", **changes)
    answer = admin.post("/first-steps/place", {**form, "act": "use"})
    assert 400 <= answer.status_code < 600
    assert words in why(answer, field)
    assert SECRET not in answer.text
    assert fresh.place.chosen() is None
    for name in ("s3_bucket", "s3_prefix", "s3_access_key_id", "s3_region"):
        assert f'value="{form[name]}"' in answer.text
    right = {**s3_form(s3_server, "mended"), "s3_secret_access_key": "", "kept": ticket(answer), "act": "check"}
    assert "This place works." in admin.post("/first-steps/place", right).text


# --- Azure --------------------------------------------------------------------------------------------------


@pytest.mark.cloudstore
def test_a_vault_in_azure_and_a_wrong_key(fresh, admin, azure_server):
    wrong = azure_form(azure_server, "clicks", azure_account_key="d3Jvbmc=")
    answer = admin.post("/first-steps/place", {**wrong, "act": "use"})
    assert answer.status_code == 422
    assert "Our credentials" in why(answer, "azure_account_key")
    assert "d3Jvbmc=" not in answer.text
    right = azure_form(azure_server, "clicks")
    assert admin.post("/first-steps/place", {**right, "act": "use"}).status_code == 204
    assert admin.post("/first-steps/vault", NEW).status_code == 200
    assert fresh.door.state() is VaultState.OPEN


@pytest.mark.cloudstore
def test_new_credentials_are_tried_before_they_are_taken(fresh, admin, azure_server):
    form = azure_form(azure_server, "renewed")
    admin.post("/first-steps/place", {**form, "act": "use"})
    admin.post("/first-steps/vault", NEW)
    before = fresh.place.chosen()
    store = fresh.place.following(0, fresh.key.keys.vault_id)
    page = admin.get("/vault/credentials")
    assert form["azure_account_key"] not in page.text
    bad = {"azure_sign": "key", "azure_account_key": "d3Jvbmc="}
    answer = admin.post("/vault/credentials", bad)
    assert answer.status_code == 422
    assert "Our credentials" in why(answer, "azure_account_key")
    assert "Fill this in" in why(admin.post("/vault/credentials", {"azure_sign": "sas"}), "azure_sas_token")
    assert fresh.place.chosen() == before
    # Wherever a form says: the place stays.
    good = {
        "azure_sign": "key",
        "azure_account_key": form["azure_account_key"],
        "azure_container": "elsewhere",
        "kind": "s3",
    }
    assert admin.post("/vault/credentials", good).headers["hx-redirect"] == "/vault?renewed=1"
    after = fresh.place.chosen()
    assert after.url == before.url
    assert after.revision > before.revision
    assert [info.key for info in store.scan("")] == ["keyring/00000001"]
    assert "vault credentials renewed" in everything(fresh)
    assert form["azure_account_key"] not in everything(fresh)


@pytest.mark.cloudstore
def test_a_signature_takes_the_keys_place_while_the_vault_is_in_use(fresh, admin, azure_server):
    admin.post("/first-steps/place", {**azure_form(azure_server, "signed"), "act": "use"})
    admin.post("/first-steps/vault", NEW)
    vault = Vault.open(fresh.place.following(0, fresh.key.keys.vault_id), keys=fresh.key.keys)
    token = sas(azure_server.url.removeprefix("azure://"))
    unsigned, _, _ = token.partition("&sig=")
    forged = f"{unsigned}&sig={'A' * 43}%3D"
    bad = admin.post("/vault/credentials", {"azure_sign": "sas", "azure_sas_token": forged})
    assert "Our credentials" in why(bad, "azure_sas_token")
    assert token[20:] not in bad.text
    answer = admin.post("/vault/credentials", {"azure_sign": "sas", "azure_sas_token": token})
    assert answer.headers["hx-redirect"] == "/vault?renewed=1"
    assert set(fresh.place.chosen().secret) == {"sas_token"}
    assert vault.info().objects == 0
    assert fresh.door.state() is VaultState.OPEN
    assert 'id="sign-sas" value="sas" checked' in admin.get("/vault/credentials").text


# --- the API ------------------------------------------------------------------------------------------------


@pytest.mark.cloudstore
def test_the_api_offers_the_same(fresh, s3_server):
    place = {"url": f"{s3_server.url}/api", "options": {**s3_server.options, "secret_access_key": SECRET}}
    api = fresh.user("anna", "admin")
    assert api.get("/vault/place").json()["kind"] == "folder"
    assert api.post("/vault/place/check", place).json() == {"url": place["url"], "works": True, "vault": None}
    chosen = api.put("/vault/place", place)
    assert chosen.status_code == 200
    assert chosen.json()["secrets"] == ["secret_access_key"]
    assert chosen.json()["handed"] is True
    assert SECRET not in json.dumps(api.get("/vault/place").json())
    made = api.post("/vault", {"passphrase": PHRASE}).json()
    assert fresh.door.state() is VaultState.OPEN
    assert api.post("/vault/place/check", place).json()["vault"] == str(fresh.key.keys.vault_id)
    assert api.put("/vault/place", place).json()["error"]["code"] == "refused"
    renewed = api.put("/vault/place/credentials", {"credentials": {"access_key_id": "B", "secret_access_key": "C"}})
    assert renewed.json()["options"]["access_key_id"] == "B"
    assert api.put("/vault/place/credentials", {"credentials": {"endpoint": "https://x"}}).status_code == 422
    assert api.put("/vault/place", {"url": "s3://b", "options": {"nonsense": "1"}}).status_code in (409, 422)
    fresh.key.keys = None
    assert api.post("/vault/unlock", {"secret": made["recovery_key"]}).json()["fingerprint"] == made["fingerprint"]
    told = everything(fresh)
    for secret in (SECRET, PHRASE, made["recovery_key"]):
        assert secret not in told


def test_only_admins_may_touch_the_place(fresh):
    operator = fresh.user("olga", "operator")
    for answer in (
        operator.get("/vault/place"),
        operator.put("/vault/place", {"url": "/x"}),
        operator.post("/vault/place/check", {"url": "/x"}),
        operator.put("/vault/place/credentials", {"credentials": {"access_key_id": "x"}}),
        operator.post("/vault", {"passphrase": PHRASE}),
        operator.post("/vault/unlock", {"secret": "x"}),
    ):
        assert answer.status_code == 403


def test_a_place_that_makes_no_sense_is_refused_with_a_reason(fresh):
    api = fresh.user("anna", "admin")
    for body, words in (
        ({"url": "memory://x"}, "a vault cannot be kept there"),
        ({"url": "ftp://x"}, "not the address of a store"),
        ({"url": "/x", "options": {"region": "eu"}}, "no such option"),
        ({"url": "s3://user:secret@bucket"}, "must not hold credentials"),
        ({"url": "s3://bucket", "options": {"ca_file": "/etc/shadow"}}, "no such option"),
    ):
        answer = api.put("/vault/place", body)
        assert answer.status_code == 422, body
        assert words in answer.json()["error"]["message"]


def test_what_was_typed_is_kept_for_a_while_and_once():
    now = 0.0
    kept = KeptSecrets(lambda: now)
    ticket = kept.keep({"a": "1", "b": ""})
    assert kept.keep({"a": ""}) == ""
    assert kept.take("guess") == {}
    assert kept.take(ticket) == {"a": "1"}
    assert kept.take(ticket) == {}
    late = kept.keep({"a": "1"})
    now = 901.0
    assert kept.take(late) == {}
    for _ in range(60):
        kept.keep({"a": "1"})
    assert len(kept._kept) == 50
