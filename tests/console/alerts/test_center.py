"""From what is wrong to what arrives: the real database, couriers, mail and web servers; only time is ours."""

import contextlib
import email
import email.policy
import hashlib
import hmac
import json

import pytest
from sqlalchemy import event
from tests.console.alerts.receivers import MailServer, nobody_there
from tests.console.web.test_rows import NOW, a_moment, vm_status

from leeward.console.alerts.center import AlertCenter
from leeward.console.alerts.settings import MAIL, WEBHOOK, MailSettings, Rules, WebhookSettings
from leeward.console.authority import Authority
from leeward.console.views import HostView
from leeward.console.web.alert_letters import From
from leeward.domain.alerts import AlertKind
from leeward.domain.errors import LeewardError, NotFound, Refused, Unavailable
from leeward.state.database import Database

SECRET = "a secret of some length"
HOUR = 3600.0


def host(reachable=False, name="office"):
    return HostView(
        name=name, site="source", uri="x", reachable=reachable, error="" if reachable else "silent", vms=1
    )


class Town:
    """A console's alerting and its receivers, on a clock that the test turns."""

    def __init__(self, folder, authority, address="https://console.example"):
        self.folder, self.authority, self.address = folder, authority, address
        self.now = NOW
        self.number = 0
        self.hosts, self.statuses = (host(reachable=True),), (vm_status("db"),)
        self.acted = []
        self.start()

    def start(self):
        self.database = Database(f"sqlite:///{self.folder / 'leeward.db'}")
        self.center = AlertCenter(
            self.database,
            self.authority,
            From("north", self.address),
            may_act=lambda: self.acted.append(self.now),
            clock=lambda: self.now,
        )
        self.alarm = self.center.alarm(self.picture, tick=lambda: self.now)
        self.book, self.settings = self.center.book, self.center.settings

    def restart(self):
        self.database.close()
        self.start()

    def picture(self):
        self.number += 1
        return a_moment(
            *self.statuses,
            number=self.number,
            taken=self.now,
            hosts=self.hosts,
            tested={one.vm_id: self.now for one in self.statuses},
            limits=self.settings.rules().limits,
        )

    def pass_by(self, seconds, step=30.0):
        """Alarm and couriers do their rounds; after some minutes, in which most comes to pass, seldomer."""
        began, ends = self.now, self.now + seconds
        while self.now < ends:
            self.now = min(ends, self.now + (step if self.now < began + 600 else max(step, 120.0)))
            self.alarm.look()
            for courier in self.center.couriers.values():
                courier.step()

    def mail_to(self, server, **more):
        values = {"enabled": True, "host": "127.0.0.1", "port": server.port, "security": "plain"}
        values |= {"sender": "leeward@office.example", "recipients": ("anna@office.example",)}
        self.settings.save_channel(MAIL, MailSettings(**{**values, **more}), "")

    def post_to(self, receiver, **more):
        self.settings.save_channel(WEBHOOK, WebhookSettings(enabled=True, url=receiver.url, **more), SECRET)


@pytest.fixture
def town(tmp_path, authority):
    made = Town(tmp_path, authority)
    yield made
    made.database.close()


@pytest.fixture
def server():
    made = MailServer()
    yield made
    made.stop()


def mails(server):
    return [email.message_from_bytes(content, policy=email.policy.default) for _, content in server.mails]


def subjects(server):
    return [mail["Subject"] for mail in mails(server)]


def news(receiver):
    return [[(one["kind"], one["news"]) for one in json.loads(body)["alerts"]] for _, body in receiver.posts]


def test_one_message_when_it_begins_and_one_when_it_ends(town, server, receiver):
    town.mail_to(server)
    town.post_to(receiver)
    town.hosts = (host(),)
    town.pass_by(HOUR)
    town.hosts = (host(reachable=True),)
    town.pass_by(HOUR)
    assert subjects(server) == [
        "Leeward: Host office cannot be reached.",
        "Leeward: Over: Host office cannot be reached.",
    ]
    assert news(receiver) == [[("host", "begun")], [("host", "ended")]]
    (alert,) = town.book.find()
    assert alert.state == "ended"
    assert alert.ended - alert.raised >= HOUR - 70


def test_a_mail_says_what_since_when_where_and_what_to_do(town, server):
    town.settings.save_rules(Rules(zone="Asia/Tokyo"))
    town.mail_to(server)
    town.hosts = (host(),)
    town.statuses = (vm_status("db", "error", host="office", reason="an object is damaged"),)
    town.pass_by(600)
    (mail,) = mails(server)
    text = mail.get_content()
    assert mail["Subject"] == "Leeward: Alerts: 2 begun"
    for line in (
        "* Critical: Host office cannot be reached.",
        "  silent",
        "* Critical: db is not being replicated.",
        "  an object is damaged",
        "  Host: office",
        "  https://console.example/vms/id-db",
        "  https://console.example/hosts#host-office",
        "  Mend what the reason names; replication goes on by itself then.",
        "All alerts: https://console.example/alerts",
        "Sent by the Leeward console north.",
    ):
        assert line in text.splitlines(), text
    assert "(Asia/Tokyo)" in text


def test_in_japanese(town, server):
    town.settings.save_rules(Rules(language="ja"))
    town.mail_to(server)
    town.hosts = (host(),)
    town.pass_by(600)
    (mail,) = mails(server)
    assert mail["Subject"] == "Leeward: ホスト office に接続できません。"
    assert "発生:" in mail.get_content()


def test_an_agent_that_cannot_use_the_vaults_place_is_told_once_until_it_can(town, server, receiver):
    """Also when it falls silent meanwhile, and that is told as well."""
    town.settings.save_rules(Rules(language="ja"))
    town.mail_to(server)
    town.post_to(receiver)
    why = "s3://office/leeward: the vault's place that was told cannot be used: denied"
    town.hosts = (host(reachable=True).model_copy(update={"trouble": why}),)
    town.pass_by(HOUR)
    (mail,) = mails(server)
    assert mail["Subject"] == "Leeward: ホスト office はボールトの場所を使用できません。"
    assert "s3://office/leeward: 伝えられたボールトの場所を使用できません: denied" in mail.get_content()
    town.hosts = (host(),)
    town.pass_by(HOUR)
    town.hosts = (host(reachable=True),)
    town.pass_by(HOUR)
    told = [one for message in news(receiver) for one in message if one[0] == "vault-place"]
    assert told == [("vault-place", "begun"), ("vault-place", "ended")]


def test_no_links_where_the_console_does_not_know_its_address(tmp_path, authority, server):
    town = Town(tmp_path, authority, address="")
    town.mail_to(server)
    town.hosts = (host(),)
    town.pass_by(600)
    (mail,) = mails(server)
    assert "http" not in mail.get_content()
    town.database.close()


def test_what_comes_together_is_one_mail(town, server):
    town.mail_to(server)
    town.hosts = tuple(host(name=f"h{number}") for number in range(5))
    town.pass_by(600)
    assert subjects(server) == ["Leeward: Alerts: 5 begun"]


def test_a_mail_of_very_many_names_some_and_counts_the_rest(town, server):
    town.mail_to(server)
    town.hosts = tuple(host(name=f"h{number}") for number in range(300))
    town.pass_by(600)
    (mail,) = mails(server)
    assert mail["Subject"] == "Leeward: Alerts: 300 begun"
    assert mail.get_content().count("cannot be reached.") == 40
    assert "… and 260 more." in mail.get_content()


def test_reminders_while_it_goes_on_until_somebody_has_seen_it(town, server):
    town.settings.save_rules(Rules(remind_h=2))
    town.mail_to(server)
    town.hosts = (host(),)
    town.pass_by(5 * HOUR, 300.0)
    assert subjects(server)[1:] == ["Leeward: Still: Host office cannot be reached."] * 2
    (alert,) = town.book.open()
    town.book.acknowledge(alert.id, "anna", town.now)
    town.pass_by(5 * HOUR, 300.0)
    assert len(server.mails) == 3
    town.hosts = (host(reachable=True),)
    town.pass_by(HOUR, 300.0)
    assert subjects(server)[3:] == ["Leeward: Over: Host office cannot be reached."]


def test_a_console_that_is_restarted_tells_nothing_again(town, server, receiver):
    town.mail_to(server)
    town.post_to(receiver)
    town.hosts = (host(),)
    town.pass_by(600)
    for _ in range(3):
        town.restart()
        town.pass_by(600)
    assert len(server.mails) == len(receiver.posts) == 1
    assert len(town.book.find()) == 1


def test_a_console_killed_before_it_sends_tells_it_when_it_is_back(town, server):
    town.mail_to(server)
    town.hosts = (host(),)
    while not town.book.open():
        town.now += 10
        town.alarm.look()
    town.restart()
    town.pass_by(60)
    assert len(server.mails) == 1


def test_a_server_that_is_gone_is_shown_and_tried_again_until_it_is_back(town, server, receiver):
    with nobody_there() as port:
        town.mail_to(server, port=port)
        town.post_to(receiver)
        town.hosts = (host(),)
        town.pass_by(600)
    channel = town.settings.channel(MAIL)
    assert "cannot be reached" in channel.error
    assert channel.failed is not None
    assert channel.tries >= 3
    assert news(receiver) == [[("host", "begun")]], "one channel that fails keeps no other back"
    town.mail_to(server)  # an admin has mended it
    town.pass_by(60)
    assert subjects(server) == ["Leeward: Host office cannot be reached."]
    channel = town.settings.channel(MAIL)
    assert (channel.failed, channel.error, channel.tries) == (None, "", 0)


def test_failures_are_waited_for_longer_each_time(town, receiver):
    town.post_to(receiver)
    receiver.status = 500
    town.hosts = (host(),)
    town.pass_by(HOUR)
    assert 5 < len(receiver.posts) < 12
    assert len({json.loads(body)["alerts"][0]["message"] for _, body in receiver.posts}) == 1
    receiver.status = 200
    town.pass_by(2 * HOUR, 120.0)
    tried = len(receiver.posts)
    town.pass_by(2 * HOUR, 120.0)
    assert len(receiver.posts) == tried


@pytest.fixture
def unwritable(town):
    """A predicate of statements, to be set: those that SQLite refuses to write."""

    class Broken:
        write = staticmethod(lambda statement: False)

    @event.listens_for(town.database._engine, "before_cursor_execute")
    def before(connection, cursor, statement, *_):
        cursor.connection.execute(f"PRAGMA query_only={int(Broken.write(statement))}")

    return Broken


def look_on(town, seconds, step=10):
    """As the webhook's thread does, that goes on after an error; and looks sooner than it would try again."""
    for _ in range(int(seconds / step)):
        town.now += step
        with contextlib.suppress(LeewardError):
            town.center.couriers[WEBHOOK].step()


def raised(town, receiver):
    town.post_to(receiver)
    town.hosts = (host(),)
    while not town.book.open():
        town.now += 10
        town.alarm.look()


def test_a_database_that_takes_nothing_up_lets_nothing_be_sent(town, receiver, unwritable):
    raised(town, receiver)
    unwritable.write = lambda statement: statement.startswith("UPDATE")
    look_on(town, 600)
    assert receiver.posts == []
    unwritable.write = lambda statement: False
    look_on(town, 600)
    assert news(receiver) == [[("host", "begun")]]


def test_a_message_that_cannot_be_noted_as_told_is_sent_again_less_and_less_often(town, receiver, unwritable):
    """The disk had just become full."""
    raised(town, receiver)
    unwritable.write = lambda statement: statement.startswith("UPDATE alert_telling")
    look_on(town, HOUR)
    assert 2 < len(receiver.posts) < 12
    assert len({json.loads(body)["alerts"][0]["message"] for _, body in receiver.posts}) == 1
    unwritable.write = lambda statement: False
    look_on(town, 2 * HOUR, step=60)
    sent = len(receiver.posts)
    look_on(town, 2 * HOUR, step=60)
    assert len(receiver.posts) == sent
    assert town.settings.channel(WEBHOOK).tries == 0


def test_what_was_over_before_anybody_could_be_told_is_told_once(town, receiver):
    town.post_to(receiver)
    receiver.status = 500
    town.hosts = (host(),)
    town.pass_by(300)
    town.hosts = (host(reachable=True),)
    town.pass_by(300)
    receiver.status = 200
    town.pass_by(2 * HOUR, 120.0)
    assert news(receiver)[-1] == [("host", "ended")]
    assert [one for one in news(receiver) if one == [("host", "ended")]] != []
    count = len(receiver.posts)
    town.pass_by(2 * HOUR, 120.0)
    assert len(receiver.posts) == count


def test_a_channel_that_is_turned_on_later_tells_what_is_open_only(town, receiver):
    town.hosts = (host(), host(name="other"))
    town.pass_by(600)
    town.hosts = (host(), host(reachable=True, name="other"))
    town.pass_by(600)
    town.post_to(receiver)
    town.pass_by(600)
    assert news(receiver) == [[("host", "begun")]]


def test_a_channel_that_is_off_tells_nothing_then_or_later(town, receiver):
    town.post_to(receiver)
    town.hosts = (host(),)
    town.pass_by(70)
    town.settings.save_channel(WEBHOOK, WebhookSettings(enabled=False, url=receiver.url), None)
    town.pass_by(600)
    assert receiver.posts == []
    assert town.settings.secret(WEBHOOK) == SECRET


def test_when_some_recipients_are_refused_the_others_are_not_told_twice(town):
    server = MailServer(turned_away=["ben@office.example"])
    town.mail_to(server, recipients=("anna@office.example", "ben@office.example"))
    town.hosts = (host(),)
    town.pass_by(HOUR)
    assert len(server.mails) == 1
    assert "ben@office.example" in town.settings.channel(MAIL).error
    server.stop()


def test_nothing_is_sent_by_a_console_that_may_not_act(town, receiver):
    """Its seat may have run out between the look and the message."""

    class Deposed(BaseException):
        pass

    def ended():
        raise Deposed

    town.post_to(receiver)
    town.center.couriers[WEBHOOK]._may_act = ended
    town.hosts = (host(),)
    with pytest.raises(Deposed):
        town.pass_by(600)
    assert receiver.posts == []


def test_the_signature_is_that_of_the_stored_secret(town, receiver):
    town.post_to(receiver)
    town.hosts = (host(),)
    town.pass_by(600)
    ((headers, body),) = receiver.posts
    signed = hmac.new(SECRET.encode(), headers["X-Leeward-Timestamp"].encode() + b"." + body, hashlib.sha256)
    assert headers["X-Leeward-Signature"] == f"sha256={signed.hexdigest()}"
    (alert,) = json.loads(body)["alerts"]
    assert alert["url"] == "https://console.example/hosts#host-office"
    assert (alert["text"], alert["detail"]) == ("Host office cannot be reached.", "silent")


def test_a_picture_that_is_old_or_the_same_decides_nothing(town):
    town.hosts = (host(),)
    moment = town.picture()
    town.alarm._picture = lambda: moment
    for _ in range(100):
        town.now += 10
        town.alarm.look()
    assert town.book.open() == []


def test_what_is_still_so_is_noted_with_its_newest_reason(town):
    town.hosts = (host(),)
    town.pass_by(300)
    town.hosts = (host().model_copy(update={"error": "no route"}),)
    town.pass_by(300)
    (alert,) = town.book.open()
    assert alert.detail == "no route"
    assert town.now - alert.seen <= 70


def test_a_thousand_late_vms_are_one_alert_each_and_one_message(town, receiver):
    town.post_to(receiver)
    town.statuses = tuple(vm_status(f"v{n}", rpo_target_s=60.0, rpo_actual_s=9999.0) for n in range(1000))
    town.pass_by(60)
    assert len(town.book.open()) == 1000
    ((_, body),) = receiver.posts
    assert len(json.loads(body)["alerts"]) == 1000
    town.statuses = ()
    town.pass_by(200)
    assert town.book.open_counts() == {}


def test_acknowledging(town):
    town.hosts = (host(),)
    town.pass_by(120)
    (alert,) = town.book.open()
    assert town.book.acknowledge(alert.id, "anna", town.now).state == "acknowledged"
    assert town.book.acknowledge(alert.id, "ben", town.now).acknowledged_by == "anna"
    town.hosts = (host(reachable=True),)
    town.pass_by(120)
    with pytest.raises(Refused):
        town.book.acknowledge(alert.id, "anna", town.now)
    with pytest.raises(NotFound):
        town.book.acknowledge(999, "anna", town.now)


def test_alerts_are_found_by_half_and_kind_and_page(town):
    town.hosts = (host(), host(name="b"))
    town.statuses = (vm_status("db", rpo_target_s=60.0, rpo_actual_s=9999.0),)
    town.pass_by(200)
    town.hosts = (host(), host(name="b", reachable=True))
    town.pass_by(200)
    assert len(town.book.find()) == 3
    assert [one.name for one in town.book.find(past=True)] == ["b"]
    assert [one.kind for one in town.book.find(kind=AlertKind.RPO)] == [AlertKind.RPO]
    newest, *_ = town.book.find(limit=1)
    assert all(one.id < newest.id for one in town.book.find(before=newest.id))


# --- secrets ------------------------------------------------------------------------------------------------


def test_the_database_holds_no_secret_in_clear(town, server):
    town.mail_to(server)
    town.settings.save_channel(MAIL, town.settings.channel(MAIL).settings, "correct horse battery")
    town.database.close()
    for path in town.folder.glob("leeward.db*"):
        assert b"correct horse" not in path.read_bytes()
    town.start()
    assert town.settings.secret(MAIL) == "correct horse battery"


def test_a_secret_stored_under_another_authority_is_told_not_used(town, server, tmp_path):
    town.mail_to(server)
    town.settings.save_channel(MAIL, town.settings.channel(MAIL).settings, "correct horse battery")
    town.authority = Authority.open(tmp_path / "other")
    town.restart()
    with pytest.raises(Unavailable, match="another authority"):
        town.settings.secret(MAIL)
    town.hosts = (host(),)
    town.pass_by(300)
    assert "another authority" in town.settings.channel(MAIL).error
    assert server.mails == []


def test_a_secret_of_one_channel_cannot_be_put_in_anothers_place(town):
    sealer = town.settings._sealer
    with pytest.raises(Unavailable):
        sealer.open(sealer.seal("x", MAIL), WEBHOOK)
