"""The audit log as a person reads it: who signed in, what was refused and why, in the reader's language."""

import html
import re

import pytest
from tests.console.caller import PASSWORD
from tests.console.plan_world import DB
from tests.console.web.test_japanese import english
from tests.console.web.test_removing import TEST, north, remove

from leeward.console.views import ProtectRequest
from leeward.console.web.audit_rows import entry
from leeward.console.web.language import language_named
from leeward.console.web.phrases import Quote

__all__ = ["north"]
ROW = {"id": 7, "time": "", "who": "anna", "address": "10.0.0.7", "what": "pause", "subject": "", "outcome": "done"}
ROW |= {"status": 200, "detail": ""}


def log(pages):
    """Rows of the page, newest first, as a person reads them."""
    page = pages.get("/audit")
    assert page.status_code == 200
    body = page.text.partition("<tbody>")[2].partition("</tbody>")[0]
    cells = [re.findall(r"<t[dh]\b[^>]*>(.*?)</t[dh]>", row, flags=re.S) for row in body.split("</tr>") if row]
    return [[html.unescape(re.sub(r"<[^>]*>", "", cell)).strip() for cell in row] for row in cells]


def test_who_signs_in_and_who_cannot(stand):
    admin = stand.as_role("admin", "anna")
    for name in ("anna", "root", "<script>alert(1)</script>", "correct-horse-battery"):
        stand.pages().post("/sign-in", {"user": name, "password": "wrong", "next": "/"})
    stand.pages().post("/sign-in", {"user": "anna", "password": PASSWORD, "next": "/"})
    rows = [(who, where, what, on, end) for _, who, where, what, on, end, _ in log(admin)[:5]]
    place = "203.0.113.7"
    assert rows == [
        ("anna", place, "sign in", "anna", "Done"),
        ("nobody", place, "sign in", "no user's name, of length 21", "Refused"),
        ("nobody", place, "sign in", "no user's name, of length 25", "Refused"),
        ("nobody", place, "sign in", "root", "Refused"),
        ("nobody", place, "sign in", "anna", "Refused"),
    ]
    assert "horse" not in str(stand.audit())


def test_the_looks_of_pages_in_one_browser_are_no_change(stand):
    admin = stand.as_role("admin", "anna")
    before = len(stand.audit())
    assert admin.post("/preferences", {"language": "ja", "next": "/"}).status_code == 204
    assert len(stand.audit()) == before


def test_why_a_host_stays_is_said_in_japanese(north):
    north.service.protect("test", ProtectRequest())
    assert remove(north.as_role("admin")).status_code == 409
    assert north.user("bert", "admin").delete("/hosts/north").status_code == 409
    reader = north.as_role("admin", "anna", language="ja")
    details = [row[-1] for row in log(reader) if row[4] == "north"]
    assert details == ["そこで保護されている VM があります: test"] * 2
    assert english(reader.get("/audit").text) == []
    north.service.unprotect(TEST)


@pytest.mark.parametrize(
    ("row", "field", "said"),
    [
        ({"who": "nobody"}, "who", "未サインイン"),
        ({"who": "anna, token ci"}, "who", "anna、トークン ci"),
        ({"who": "Recovery"}, "who", "Recovery"),
        ({"address": "local"}, "where", "このマシン"),
        ({"subject": "Vault"}, "subject", "Vault"),
        ({"what": "login", "subject": "no user's name, of length 9"}, "subject", "ユーザー名ではない文字列(9 文字)"),
        ({"what": "pause", "subject": "no user's name, of length 9"}, "subject", "no user's name, of length 9"),
        ({"what": "set alert channel", "subject": "mail"}, "subject", "メール"),
        ({"what": "acknowledge", "subject": "vault-full"}, "subject", None),
        ({"what": "carry out", "detail": "pause"}, "detail", None),
        ({"what": "ask plan", "detail": "approve"}, "detail", None),
        ({"detail": "planned"}, "detail", None),
        ({"detail": "role admin"}, "detail", "ロール: 管理者"),
        ({"detail": "planned, recovery point latest"}, "detail", None),
        ({"detail": "deep"}, "detail", None),
        ({"detail": "there is no such VM (before it, 40 more were refused)"}, "detail", None),
        ({"detail": "libvirt said no"}, "detail", "libvirt said no"),
    ],
)
def test_short_words_for_programs_are_said_and_names_are_not(row, field, said):
    shown = getattr(entry({**ROW, **row}), field)
    text = shown if isinstance(shown, str) else language_named("ja").say(shown)
    assert text == said if said else not re.search("[A-Za-z]{3}", text.replace("VM", "")), text


def test_everything_else_is_quoted():
    assert entry({**ROW, "detail": "root, port 22"}).detail == Quote("root, port 22")


def test_every_change_that_pages_make_reads_well_in_japanese(stand):
    """What a few of them leave in the log, done and refused."""
    stand.world.protect_all()
    stand.world.create()
    admin = stand.as_role("admin", "anna", language="ja")
    post = admin.post
    post("/users", {"name": "ben", "password": PASSWORD, "role": "operator"})
    post("/users", {"name": "9 9", "password": PASSWORD, "role": "operator"})
    post("/users/ben/role", {"role": "viewer"})
    post("/users/nobody-like-that/role", {"role": "viewer"})
    post("/settings/tokens", {"name": "ci", "role": "viewer", "life": "1d"})
    post("/settings/tokens/nothing/remove")
    for deed in ("pause", "resume", "commit", "cleanup"):
        post(f"/do/{deed}", {"vm": DB})
    post("/failover", {"vm": DB, "type": "planned", "confirm": "no", "point": "latest"})
    post("/plans/shop/start", {"type": "planned", "confirm": "no"})
    post("/plans/shop/ask/approve")
    post("/vault/check", {"deep": "1"})
    post("/alerts/77/acknowledge")
    post("/settings/alerts/mail", {"enabled": "1", "host": "no host"})
    post("/services/recovery/scan", {"ranges": "10.0.0.0/8"})
    post("/services/recovery/place", {"place": "agent"})
    stand.pages().post("/enable", {"vm": DB})
    page = admin.get("/audit").text
    assert english(page) == []
    left = {cell for row in log(admin) for cell in (row[3], row[5], row[6]) if re.fullmatch(r"[A-Za-z' ]{3,}", cell)}
    assert left == set()
