"""Alerts and their settings, as a browser asks for them."""

import re

import pytest
from tests.console.alerts.receivers import PASSWORD, USER, MailServer, Receiver, careful_mail_server

from leeward.console.alerts.settings import MAIL, WEBHOOK, Rules
from leeward.console.authority import Authority
from leeward.domain.alerts import AlertKind, Decision, Trouble

NO_ONE = "no-one"


@pytest.fixture
def server(stand):
    with careful_mail_server(Authority.open(stand.folder / "authority")) as made:
        yield made


@pytest.fixture(scope="module")
def shared_server(shared):
    with careful_mail_server(Authority.open(shared.folder / "authority")) as made:
        yield made


@pytest.fixture
def receiver():
    made = Receiver()
    yield made
    made.stop()


def raise_some(stand, *troubles, now=1_800_000_000.0):
    raised = tuple((one, 120.0) for one in troubles)
    stand.alerts.book.apply(Decision(raised, (), ()), now)
    return stand.alerts.book.open()


def mail_form(server, **more):
    form = {"enabled": "1", "host": "127.0.0.1", "port": str(server.port), "security": "starttls", "user": USER}
    form |= {
        "password": PASSWORD,
        "sender": "leeward@office.example",
        "recipients": "anna@office.example",
        "ca": server.ca,
    }
    return form | more


def hook_form(receiver, **more):
    return {"enabled": "1", "url": receiver.url, "secret": "a secret of some length", "ca": ""} | more


HOST = Trouble(AlertKind.HOST, "office", "office", "its agent does not answer")


def test_what_is_wrong_is_listed_and_leads_to_where_it_is_mended(stand):
    raise_some(stand, HOST, Trouble(AlertKind.RUN, "r1", "db", "no room"))
    page = stand.as_role("viewer").get("/alerts").text
    assert "Host office cannot be reached." in page
    assert 'href="/hosts#host-office"' in page
    assert "db: a run has stalled and waits for you." in page
    assert 'href="/runs/r1"' in page
    assert "Acknowledge" not in page  # a viewer looks


def test_an_operator_acknowledges_and_all_see_who(stand):
    (alert,) = raise_some(stand, HOST)
    operator = stand.as_role("operator", "anna")
    answer = operator.post(f"/alerts/{alert.id}/acknowledge")
    assert answer.status_code == 200
    assert "anna" in stand.as_role("viewer").get("/alerts").text
    assert stand.alerts.book.open()[0].acknowledged_by == "anna"
    assert operator.post("/alerts/99/acknowledge").status_code == 404
    assert ("acknowledge", "anna", "office") in [
        (entry["what"], entry["who"], entry["subject"]) for entry in stand.audit()
    ]


def test_past_alerts_and_kinds(stand):
    raise_some(stand, HOST, Trouble(AlertKind.RUN, "r1", "db"))
    stand.alerts.book.apply(Decision((), (), (HOST.key,)), 1_800_000_600.0)
    viewer = stand.as_role("viewer")
    past = viewer.get("/alerts?show=past").text
    assert "Host office cannot be reached." in past
    assert "12 min" in past
    assert "a run has stalled" not in past
    assert "Nothing of this kind is wrong." in viewer.get("/alerts?kind=vault").text
    assert "a run has stalled" in viewer.get("/alerts?kind=run").text
    for odd in ("show=x", "kind=x", "before=-1", "before=999999999999"):
        assert viewer.get(f"/alerts?{odd}").status_code == 200, odd


def test_very_many_are_read_page_by_page(stand):
    raise_some(stand, *[Trouble(AlertKind.HOST, f"h{n}", f"h{n}") for n in range(130)])
    viewer = stand.as_role("viewer")
    page = viewer.get("/alerts").text
    assert page.count('<tr id="alert-') == 100
    older = re.search(r'href="(/alerts\?before=\d+)"', page)[1]
    assert viewer.get(older).text.count('<tr id="alert-') == 30


def test_a_names_markup_is_text(stand):
    raise_some(stand, Trouble(AlertKind.HOST, "<img src=x>", "<img src=x>", "<script>"))
    page = stand.as_role("operator").get("/alerts").text
    assert "<img src=x>" not in page
    assert "<script>" not in page.split("</head>")[1]


def test_that_nobody_is_told_is_said(stand, receiver):
    assert "Nobody is told of alerts yet." in stand.as_role("viewer").get("/alerts").text
    admin = stand.as_role("admin")
    assert admin.post("/settings/alerts/webhook", hook_form(receiver)).status_code == 204
    assert "Nobody is told" not in admin.get("/alerts").text


def test_a_channel_that_fails_is_shown_where_alerts_are(stand, receiver):
    admin = stand.as_role("admin")
    admin.post("/settings/alerts/webhook", hook_form(receiver))
    stand.alerts.book.failed(WEBHOOK, "the receiver answered with status 500", 2e9, 1_800_000_000.0)
    assert "the receiver answered with status 500" in admin.get("/alerts").text
    assert "Does not get through" in admin.get("/settings/alerts").text


def test_mail_is_set_up_tried_and_kept(stand, server):
    admin = stand.as_role("admin")
    tried = admin.post("/settings/alerts/mail/test", mail_form(server))
    assert tried.status_code == 200
    assert "The mail server has taken the test message." in tried.text
    assert len(server.mails) == 1
    assert stand.alerts.settings.channel(MAIL) is None, "a test saves nothing"
    assert admin.post("/settings/alerts/mail", mail_form(server)).status_code == 204
    page = admin.get("/settings/alerts").text
    assert PASSWORD not in page
    assert 'value="leeward@office.example"' in page
    assert PASSWORD not in str(stand.audit())
    again = admin.post("/settings/alerts/mail/test", mail_form(server, password=""))
    assert again.status_code == 200, "with the stored password"
    assert len(server.mails) == 2


def test_a_stored_password_does_not_go_to_another_server(stand, server):
    admin = stand.as_role("admin")
    admin.post("/settings/alerts/mail", mail_form(server))
    other = MailServer()
    for change in ({"port": str(other.port)}, {"user": "eve"}, {"ca": ""}, {"security": "tls"}):
        for path in ("/settings/alerts/mail", "/settings/alerts/mail/test"):
            answer = admin.post(path, mail_form(server, password="", **change))
            assert answer.status_code == 422, change
            assert "Type it again: the server is another one now." in answer.text
    assert other.mails == []
    other.stop()


def test_a_refused_login_is_shown_with_everything_that_was_typed(stand, server):
    answer = stand.as_role("admin").post("/settings/alerts/mail/test", mail_form(server, password="wrong"))
    assert answer.status_code == 409
    assert "The mail server refused the login: 535" in answer.text
    assert 'value="anna@office.example"' in answer.text
    assert "wrong" not in re.findall(r'value="([^"]*)"', answer.text)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"host": ""}, "Fill this in."),
        ({"host": "a b"}, "Write a name like mail.example.com"),
        ({"port": "x"}, "Write a whole number."),
        ({"port": "99999"}, "At most 65535."),
        ({"sender": "nobody"}, "Write an address like leeward@example.com."),
        ({"recipients": "anna@office.example, x"}, "Write addresses like"),
        ({"recipients": "a@b.example\r\nBcc: c@d.example"}, "Write addresses like"),
        ({"ca": "nonsense"}, "This is no certificate in PEM form."),
        ({"security": "rot13"}, "Choose one."),
        ({"security": "plain", "host": "mail.example"}, "A password is not sent in clear over a network."),
        ({"password": ""}, "Fill this in."),
        ({"password": "p\u00e4ssword"}, "ASCII characters only"),
        ({"user": "bj\u00f8rn"}, "ASCII characters only"),
        ({"host": "a..b"}, "Write a name like mail.example.com"),
        ({"ca": "# 会社の証明書"}, "This is no certificate in PEM form."),
    ],
)
def test_what_is_wrong_with_mail_stands_beside_the_field_and_nothing_else_is_lost(shared, shared_server, change, why):
    answer = shared.as_role("admin").post("/settings/alerts/mail", mail_form(shared_server, **change))
    assert answer.status_code == 422
    (field,) = {*change} - {"host"} or {"host"}
    wrong = re.search(rf'id="why-{field}">.*?</p>', answer.text, re.S)[0]
    assert why in wrong.replace("&#39;", "'")
    assert f'value="{change.get("user", USER)}"' in answer.text
    assert shared.alerts.settings.channel(MAIL) is None
    if "password" not in change:
        assert "Type it again: it is not sent back to the page." in answer.text


@pytest.mark.parametrize(
    ("change", "field", "why"),
    [
        ({"url": "ftp://x"}, "url", "Write an address like https://example.com/hook."),
        ({"url": "https://a:b@x/"}, "url", "Write an address like"),
        ({"url": "https://x:port/"}, "url", "Write an address like"),
        ({"url": "https://a..b/"}, "url", "Write an address like"),
        ({"ca": "# 会社の証明書"}, "ca", "This is no certificate in PEM form."),
        ({"secret": "short"}, "secret", "At least 16 characters."),
        ({"secret": ""}, "secret", "Fill this in."),
    ],
)
def test_what_is_wrong_with_a_webhook(shared, receiver, change, field, why):
    answer = shared.as_role("admin").post("/settings/alerts/webhook", hook_form(receiver, **change))
    assert answer.status_code == 422
    assert why in re.search(rf'id="why-{field}">.*?</p>', answer.text, re.S)[0]


def test_a_webhook_is_tried(stand, receiver):
    admin = stand.as_role("admin")
    assert (
        "The receiver has taken the test message."
        in admin.post("/settings/alerts/webhook/test", hook_form(receiver)).text
    )
    receiver.status = 500
    answer = admin.post("/settings/alerts/webhook/test", hook_form(receiver))
    assert "The receiver answered with status 500" in answer.text
    assert b'"test": true' in receiver.posts[0][1]


def test_the_audit_log_has_the_channel_and_no_address_however_it_ends(stand, receiver):
    admin = stand.as_role("admin")
    receiver.url += "/t0ken"
    receiver.status = 500
    for path, change, status in (
        ("webhook/test", {}, 409),
        ("webhook/test", {"secret": "short"}, 422),
        ("webhook", {"secret": "short"}, 422),
        ("webhook", {}, 204),
    ):
        assert admin.post(f"/settings/alerts/{path}", hook_form(receiver, **change)).status_code == status
    told = stand.audit()
    assert [entry["subject"] for entry in told if "alert channel" in entry["what"]] == ["webhook"] * 4
    assert "t0ken" not in str(told)


def test_a_password_that_no_login_takes_is_in_no_log_however_it_came_to_be_stored(stand, server):
    admin = stand.as_role("admin")
    assert admin.post("/settings/alerts/mail", mail_form(server)).status_code == 204
    stored = stand.alerts.settings.channel(MAIL).settings
    stand.alerts.settings.save_channel(MAIL, stored, "p\u00e4ssword")
    answer = admin.post("/settings/alerts/mail/test", mail_form(server, password=""))
    assert answer.status_code == 409
    assert "The login takes ASCII characters only" in answer.text
    for text in (answer.text, str(stand.audit())):
        assert "\u00e4" not in text
        assert "xe4" not in text


RULES = {
    "rpo_grace_s": "10min",
    "host_grace_s": "2min",
    "vault_grace_s": "30s",
    "full": "80",
    "drill_days": "30",
    "remind_h": "0",
    "language": "ja",
    "zone": "Asia/Tokyo",
}


def test_the_rules_are_set_and_count_at_once(stand):
    admin = stand.as_role("admin")
    assert admin.post("/settings/alerts/rules", RULES).status_code == 204
    rules = stand.alerts.settings.rules()
    assert (rules.rpo_grace_s, rules.full, rules.drill_days, rules.zone) == (600.0, 80, 30, "Asia/Tokyo")
    assert stand.watch.fresh().limits.drill_s == 30 * 86_400
    assert 'value="10min"' in admin.get("/settings/alerts").text


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rpo_grace_s", "soon"),
        ("rpo_grace_s", ""),
        ("rpo_grace_s", "99d"),
        ("full", "100"),
        ("full", "10"),
        ("drill_days", "-1"),
        ("remind_h", "9999"),
        ("language", "xx"),
        ("zone", "Mars/Base"),
        ("zone", "../../etc/passwd"),
    ],
)
def test_what_is_wrong_with_the_rules_stands_beside_the_field(stand, field, value):
    answer = stand.as_role("admin").post("/settings/alerts/rules", {**RULES, field: value})
    assert answer.status_code == 422
    assert f'id="why-{field}"' in answer.text
    assert 'value="2min"' in answer.text
    assert stand.alerts.settings.rules() == Rules()


def test_no_other_channel_can_be_made_up(stand):
    admin = stand.as_role("admin")
    assert admin.post("/settings/alerts/carrier-pigeon", {}).status_code == 404
    assert admin.post("/settings/alerts/carrier-pigeon/test", {}).status_code == 404
    assert "/settings/alerts" in admin.get("/settings").text
    assert "/settings/alerts" not in stand.as_role("operator").get("/settings").text
