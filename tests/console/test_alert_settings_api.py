"""Settings of alerts through the API: changed piece by piece, tried out; secrets go in and never come out."""

import json

import pytest
from tests.console.alerts.receivers import (
    PASSWORD,
    USER,
    MailServer,
    Receiver,
    careful_mail_server,
    console_with_alerts,
)
from tests.console.test_api import error

from leeward.console.alerts.settings import MAIL, WEBHOOK, Rules

SETTINGS = "/alerts/settings"
SECRET = "a secret of some length"


@pytest.fixture
def console(tmp_path):
    with console_with_alerts(tmp_path) as made:
        yield made


@pytest.fixture
def admin(console):
    return console.user("anna", "admin")


@pytest.fixture
def server(console):
    with careful_mail_server(console.authority) as made:
        yield made


@pytest.fixture
def receiver():
    made = Receiver()
    yield made
    made.stop()


def mail(server, **more):
    body = {"enabled": True, "host": "127.0.0.1", "port": server.port, "user": USER, "password": PASSWORD}
    body |= {"sender": "leeward@office.example", "recipients": ["anna@office.example"], "ca": server.ca}
    return body | more


def hook(receiver, **more):
    return {"enabled": True, "url": receiver.url, "secret": SECRET} | more


def change(caller, what, body):
    return caller.ask("PATCH", f"{SETTINGS}/{what}", body)


def test_nothing_is_set_at_first(admin):
    shown = admin.get(SETTINGS).json()
    assert (shown["mail"], shown["webhook"]) == (None, None)
    assert shown["rules"] == Rules().model_dump(mode="json")
    error(admin.post(f"{SETTINGS}/mail/test"), 404, "not-found")


@pytest.mark.parametrize("role", ["viewer", "operator"])
def test_only_admins(console, receiver, role):
    caller = console.user("ben", role)
    assert caller.get(SETTINGS).status_code == 403
    for what in ("mail", "webhook", "rules"):
        assert change(caller, what, {}).status_code == 403
    assert caller.post(f"{SETTINGS}/webhook/test", hook(receiver)).status_code == 403
    assert receiver.posts == []


def test_mail_is_set_piece_by_piece_and_its_password_never_comes_back(console, admin, server):
    told = [change(admin, "mail", mail(server))]
    assert told[0].status_code == 200, told[0].text
    assert told[0].json()["has_secret"] is True
    assert told[0].json()["security"] == "starttls"
    told += [change(admin, "mail", {"recipients": ["ben@office.example", "cleo@office.example"]})]
    told += [change(admin, "mail", {"enabled": False}), admin.get(SETTINGS), admin.post(f"{SETTINGS}/mail/test")]
    assert told[-1].json() == {"channel": "mail", "sent": True}
    assert [recipients for recipients, _ in server.mails] == [["ben@office.example", "cleo@office.example"]]
    assert server.logins == [(USER, True)]
    kept = console.center.settings.channel(MAIL).settings
    assert (kept.enabled, kept.sender, kept.port) == (False, "leeward@office.example", server.port)
    audit = console.audit()
    assert PASSWORD not in "".join(answer.text for answer in told) + json.dumps(audit)
    said = [(entry["what"], entry["who"], entry["subject"], entry["detail"]) for entry in audit]
    for what, detail in (("set alert mail", "on"), ("set alert mail", "off"), ("test alert mail", "sent")):
        assert (what, "anna", "mail", detail) in said


def test_a_stored_password_does_not_go_to_another_server(console, admin, server):
    change(admin, "mail", mail(server))
    other = MailServer()
    for body in ({"port": other.port}, {"user": "eve"}, {"ca": ""}, {"security": "tls"}):
        for answer in (change(admin, "mail", body), admin.post(f"{SETTINGS}/mail/test", body)):
            told = error(answer, 422, "bad-input")
            assert (told["subject"], told["message"]) == (
                "password",
                "type it again: the server is another one now",
            )
    assert other.mails == []
    other.stop()
    assert change(admin, "mail", {"user": "", "sender": "x@office.example"}).json()["has_secret"] is False


def test_a_change_is_tried_out_without_being_saved(console, admin, receiver):
    assert admin.post(f"{SETTINGS}/webhook/test", hook(receiver)).status_code == 200
    assert b'"test": true' in receiver.posts[0][1]
    assert console.center.settings.channel(WEBHOOK) is None


def test_what_the_other_side_says_is_told_and_the_address_stays_out_of_the_audit_log(
    console, admin, receiver, server
):
    receiver.url += "/t0ken"
    receiver.status = 500
    assert change(admin, "webhook", hook(receiver)).status_code == 200
    told = error(admin.post(f"{SETTINGS}/webhook/test"), 409, "refused")
    assert told["message"] == "the receiver answered with status 500"
    assert "t0ken" not in json.dumps(console.audit())
    server.turned_away = {"ben@office.example"}
    body = mail(server, recipients=["anna@office.example", "ben@office.example"])
    told = error(admin.post(f"{SETTINGS}/mail/test", body), 409, "partly-sent")
    assert "ben@office.example: 550" in told["message"]


@pytest.mark.parametrize(
    ("body", "field", "why"),
    [
        ({"host": ""}, "host", "write a name like mail.example.com, or an address"),
        ({"host": "a..b"}, "host", "write a name like mail.example.com, or an address"),
        ({"port": 0}, "port", "at least 1"),
        ({"port": "x"}, "port", None),
        ({"security": "rot13"}, "security", None),
        ({"security": "plain", "host": "mail.example"}, "security", "a password is not sent in clear over a network"),
        ({"sender": "nobody"}, "sender", "write an address like leeward@example.com"),
        ({"recipients": []}, "recipients", "write addresses like anna@example.com, separated by commas"),
        ({"recipients": ["a@b.example\r\nBcc: c@d.example"]}, "recipients", None),
        ({"ca": "nonsense"}, "ca", "this is no certificate in PEM form"),
        ({"password": "p\u00e4ssword"}, "password", None),
        ({"carrier": "pigeon"}, "carrier", None),
    ],
)
def test_what_is_wrong_is_told_by_the_fields_name_and_nothing_is_saved(console, admin, server, body, field, why):
    told = error(change(admin, "mail", mail(server, **body)), 422, "bad-input")
    assert told["subject"] == field
    assert why is None or told["message"] == why
    assert "p\u00e4ssword" not in told["message"]
    assert console.center.settings.channel(MAIL) is None


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"url": "ftp://x"}, "url"),
        ({"url": "https://a:b@x/"}, "url"),
        ({"secret": "short"}, "secret"),
        ({"secret": ""}, "secret"),
    ],
)
def test_what_is_wrong_with_a_webhook(console, admin, receiver, body, field):
    assert error(change(admin, "webhook", hook(receiver, **body)), 422, "bad-input")["subject"] == field
    assert console.center.settings.channel(WEBHOOK) is None


def test_the_rules_are_changed_one_by_one(console, admin):
    assert change(admin, "rules", {"full": 80}).json()["full"] == 80
    assert change(admin, "rules", {"zone": "Asia/Tokyo", "remind_h": 0}).status_code == 200
    rules = console.center.settings.rules()
    assert (rules.full, rules.zone, rules.remind_h, rules.drill_days) == (80, "Asia/Tokyo", 0, 90)
    entry = next(entry for entry in console.audit() if entry["what"] == "set alert rules")
    assert (entry["subject"], entry["detail"]) == ("rules", "remind_h=0, zone=Asia/Tokyo")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rpo_grace_s", -1),
        ("rpo_grace_s", 1e9),
        ("full", 100),
        ("drill_days", 1.5),
        ("remind_h", 9999),
        ("language", "xx"),
        ("zone", "../../etc/passwd"),
        ("zone", ""),
    ],
)
def test_what_is_wrong_with_the_rules(console, admin, field, value):
    assert error(change(admin, "rules", {field: value}), 422, "bad-input")["subject"] == field
    assert console.center.settings.rules() == Rules()
