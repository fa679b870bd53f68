"""Signing in, and a console's first steps."""

import re
import threading

import pytest
from tests.console.caller import PASSWORD
from tests.console.web.stand import UNNOTED, KeyFolder, Stand
from tests.vault.conftest import CHEAP

from leeward.console.gate import COOKIE
from leeward.console.web.vault_door import VaultDoor, VaultState
from leeward.domain.access import Role
from leeward.domain.errors import StoreUnavailable, WrongKey
from leeward.vault.stores.local import LocalStore
from leeward.vault.stores.memory import MemoryStore

ANNA = {"user": "anna", "password": PASSWORD}


@pytest.fixture
def anna(stand):
    stand.identity.reception.add_user("anna", PASSWORD, Role.ADMIN)


def test_who_is_not_signed_in_comes_back_to_where_he_wanted_to(stand, anna):
    browser = stand.pages()
    answer = browser.get("/recovery?q=db")
    assert answer.headers["location"] == "/sign-in?next=/recovery%3Fq%3Ddb"
    page = browser.get(answer.headers["location"])
    assert 'name="next" value="/recovery?q=db"' in page.text
    answer = browser.post("/sign-in", {**ANNA, "next": "/recovery?q=db"})
    assert answer.headers["hx-redirect"] == "/recovery?q=db"
    cookie = answer.headers["set-cookie"].lower()
    assert all(word in cookie for word in (COOKIE.lower(), "httponly", "secure", "samesite=strict", "path=/"))


@pytest.mark.parametrize("target", ["//evil.example/", "https://evil.example", "/\\evil.example", "javascript:1", ""])
def test_nobody_is_sent_elsewhere_after_signing_in(stand, anna, target):
    answer = stand.pages().post("/sign-in", {**ANNA, "next": target})
    assert answer.headers["hx-redirect"] == "/"


def test_a_wrong_password_is_told_and_the_name_is_not_lost(stand, anna):
    answer = stand.pages().post("/sign-in", {"user": "anna", "password": "wrong", "next": "/runs"})
    assert answer.status_code == 401
    assert "User name or password is wrong" in answer.text
    assert 'value="anna"' in answer.text
    assert 'value="/runs"' in answer.text
    assert "wrong" not in re.findall(r'type="password" value="([^"]*)"', answer.text)


def test_guessing_is_slowed_down_and_says_for_how_long(stand, anna):
    for _ in range(5):
        stand.pages().post("/sign-in", {"user": "anna", "password": "wrong"})
    answer = stand.pages().post("/sign-in", ANNA)
    assert answer.status_code == 429
    assert "Too many attempts" in answer.text
    assert "Try again in" in answer.text


def test_signing_out_ends_the_login(stand):
    browser = stand.as_role("viewer")
    answer = browser.post("/sign-out")
    assert (answer.status_code, answer.headers["hx-redirect"]) == (204, "/sign-in")
    assert browser.get("/").status_code == 303


def test_pages_carry_no_secret_and_a_strict_policy(stand):
    browser = stand.as_role("admin")
    answer = browser.get("/")
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert answer.headers["cache-control"] == "no-store"
    assert browser.cookies[COOKIE] not in answer.text
    for inline in (r"<script(?![^>]*\bsrc=)", r"\sstyle=", r"<style", r"\son\w+=", "hx-on", "javascript:"):
        assert not re.search(inline, answer.text), inline


# --- first steps --------------------------------------------------------------------------------------------


def new_door(store, key):
    def open_it(create):
        if store.gone:
            raise StoreUnavailable("the place cannot be reached")
        return store

    store.gone = False
    return VaultDoor(lambda: "file:///var/lib/leeward/vault", open_it, key.load, key.save, *UNNOTED, CHEAP)


@pytest.fixture
def fresh(tmp_path):
    """A console on which nobody has ever done anything."""
    store, key = MemoryStore(), KeyFolder()
    made = Stand(tmp_path, make_door=lambda: new_door(store, key))
    made.store, made.key = store, key
    yield made
    made.close()


def test_from_nothing_to_a_vault_whose_recovery_key_is_confirmed(fresh):
    browser = fresh.pages()
    assert browser.get("/").headers["location"] == "/sign-in?next=/"
    assert browser.get("/sign-in").headers["location"] == "/first-steps"
    code, _ = fresh.identity.reception.offer_setup()
    form = {"code": code, "user": "Anna", "password": PASSWORD, "again": PASSWORD}
    answer = browser.post("/first-steps", form)
    assert answer.headers["hx-redirect"] == "/first-steps/vault"
    browser.cookies |= dict(answer.cookies)
    page = browser.get("/first-steps/vault")
    assert "Create the vault" in page.text
    browser.csrf = re.search(r'"X-CSRF-Token": "(\w+)"', page.text)[1]
    phrase = "an unforgettable passphrase"
    answer = browser.post("/first-steps/vault", {"passphrase": phrase, "again": phrase})
    assert answer.status_code == 200
    key = "-".join(re.findall(r"<span>([A-Z2-7]{7})</span>", answer.text))
    assert len(key) == 63
    assert fresh.door.state() is VaultState.OPEN
    wrong = browser.post("/first-steps/key", {"key": key[:-1] + ("A" if key[-1] != "A" else "B")})
    assert wrong.status_code == 422
    assert "does not open the vault" in wrong.text
    assert key not in wrong.text
    done = browser.post("/first-steps/key", {"key": key.lower().replace("-", " ")})
    assert done.headers["hx-redirect"] == "/"
    told = str(fresh.audit()) + str(fresh.local.get("/events").json())
    assert "recovery key confirmed" in told
    assert [event["what"] for event in fresh.database.events()].count("vault created") == 1
    for secret in (phrase, key, PASSWORD, code):
        assert secret not in told


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"code": "AAAAA-AAAAA-AAAAA-AAAAA"}, "code", "wrong or over"),
        ({"code": ""}, "code", "Fill this in"),
        ({"user": "no spaces please"}, "user", "no user name"),
        ({"password": "short", "again": "short"}, "", "12 to 256"),
        ({"again": "something else"}, "again", "Both must be the same"),
    ],
)
def test_what_is_wrong_is_said_beside_its_field_and_nothing_is_lost(fresh, changes, field, words):
    code, _ = fresh.identity.reception.offer_setup()
    form = {"code": code, "user": "anna", "password": PASSWORD, "again": PASSWORD, **changes}
    answer = fresh.pages().post("/first-steps", form)
    assert answer.status_code in (401, 422)
    assert words in answer.text
    if field:
        assert words in re.search(rf'id="why-{field}">(.*?)</p>', answer.text, re.S)[1]
        assert f'aria-describedby="why-{field}"' in answer.text
    for name in ("code", "user"):
        assert f'value="{form[name]}"' in answer.text
    assert not fresh.identity.reception.users_exist()


def test_a_second_first_user_cannot_be_made(stand):
    stand.as_role("viewer")
    assert stand.pages().get("/first-steps").headers["location"] == "/first-steps/vault"
    form = {"code": "x", "user": "eve", "password": PASSWORD, "again": PASSWORD}
    assert stand.pages().post("/first-steps", form).status_code == 409


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"passphrase": "", "again": ""}, "Fill this in"),
        ({"passphrase": "short", "again": "short"}, "At least 12"),
        ({"passphrase": "aaaaaaaaaaaaaaa", "again": "aaaaaaaaaaaaaaa"}, "too easy to guess"),
        ({"passphrase": "a long enough one", "again": "another one"}, "Both must be the same"),
    ],
)
def test_a_weak_passphrase_makes_no_vault(fresh, form, words):
    answer = fresh.as_role("admin").post("/first-steps/vault", form)
    assert answer.status_code == 422
    assert words in answer.text
    assert fresh.door.state() is VaultState.NONE


def test_a_vault_that_exists_is_unlocked_and_never_made_anew(fresh):
    recovery, _ = fresh.door.create("an unforgettable passphrase")
    admin = fresh.as_role("admin")
    again = {"passphrase": "another good passphrase", "again": "another good passphrase"}
    assert admin.post("/first-steps/vault", again).status_code == 409
    fresh.key.keys = None
    assert fresh.door.state() is VaultState.LOCKED
    assert "Unlock the vault" in admin.get("/first-steps/vault").text
    assert admin.post("/first-steps/vault/unlock", {"secret": "not the passphrase"}).status_code == 422
    for secret in (recovery, "an unforgettable passphrase"):
        fresh.key.keys = None
        assert admin.post("/first-steps/vault/unlock", {"secret": secret}).headers["hx-redirect"] == "/"
        assert fresh.door.state() is VaultState.OPEN


def test_a_vault_that_is_away_is_said_to_be(fresh):
    fresh.store.gone = True
    assert fresh.door.state() is VaultState.AWAY
    assert "cannot be reached" in fresh.as_role("admin").get("/first-steps/vault").text
    page = fresh.as_role("admin").get("/").text
    assert "The vault cannot be reached." in page


def test_a_vault_whose_folder_is_gone_is_away_and_not_to_be_made_anew(tmp_path):
    """Who holds its key knows that there is one: the disk is not mounted."""
    place, key = tmp_path / "vault", KeyFolder()

    def door():
        return VaultDoor(
            lambda: place.as_uri(),
            lambda create: LocalStore(place, create=create),
            key.load,
            key.save,
            *UNNOTED,
            CHEAP,
        )

    assert door().state() is VaultState.NONE
    assert door().room() is None
    door().create("an unforgettable passphrase")
    assert door().state() is VaultState.OPEN
    room = door().room()
    assert 0 < room.free < room.size
    assert 0 < room.used < 1
    place.rename(tmp_path / "elsewhere")
    assert door().state() is VaultState.AWAY


def test_how_full_a_bucket_is_nobody_tells():
    key = KeyFolder()
    assert (
        VaultDoor(lambda: "s3://bucket/prefix", lambda create: MemoryStore(), key.load, key.save, *UNNOTED).room()
        is None
    )


def test_the_door_itself_holds_the_place_and_notes_what_was_done_once():
    store, key, lock, noted = MemoryStore(), KeyFolder(), threading.Lock(), []

    def save(keys):
        assert lock.locked(), "the place could be another one by now"
        key.save(keys)

    door = VaultDoor(
        lambda: "s3://bucket", lambda create: store, key.load, save, lock, lambda *note: noted.append(note), CHEAP
    )
    recovery, found = door.create("an unforgettable passphrase")
    key.keys = None
    with pytest.raises(WrongKey):
        door.unlock("not the passphrase")
    assert door.unlock(recovery) == found
    assert noted == [("vault created", "s3://bucket", found), ("vault unlocked", "s3://bucket", found)]
    assert not lock.locked()
