"""Mail through a real server on this machine: STARTTLS, TLS, logins, and servers that refuse or are gone."""

import email
import email.policy
import socket
import threading

import pytest
from tests.console.alerts.receivers import PASSWORD, USER, MailServer, nobody_there

from leeward.console.alerts.mail import PartlySent, send_mail
from leeward.console.alerts.settings import MailSettings, Security
from leeward.domain.errors import Refused, Unavailable


@pytest.fixture
def server(files):
    """Makes servers, and stops them."""
    made = []

    def make(**more):
        made.append(MailServer(files, **more))
        return made[-1]

    yield make
    for one in made:
        one.stop()


def settings(server, authority, **more):
    values = {
        "host": "127.0.0.1",
        "port": server.port,
        "security": Security.PLAIN,
        "sender": "leeward@office.example",
        "recipients": ("anna@office.example", "ben@office.example"),
        "ca": authority.ca_pem.decode(),
    }
    return MailSettings(**{**values, **more})


def read(server):
    (recipients, content) = server.mails[-1]
    return recipients, email.message_from_bytes(content, policy=email.policy.default)


def test_a_message_arrives_whole_in_any_language(server, authority):
    there = server()
    send_mail(settings(there, authority), "", "Leeward: 警告 – ü", "ホスト office に接続できません。\n.\nend\n")
    recipients, mail = read(there)
    assert recipients == ["anna@office.example", "ben@office.example"]
    assert mail["Subject"] == "Leeward: 警告 – ü"
    assert mail.get_content().replace("\r\n", "\n") == "ホスト office に接続できません。\n.\nend\n"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["Date"]
    assert mail["Message-ID"].endswith("@office.example>")


def test_a_name_with_a_line_break_makes_no_other_header(server, authority):
    there = server()
    send_mail(settings(there, authority), "", "Leeward: a\nBcc: eve@evil.example", "text")
    recipients, mail = read(there)
    assert "eve@evil.example" not in recipients
    assert mail["Bcc"] is None


@pytest.mark.parametrize("security", [Security.STARTTLS, Security.TLS])
def test_a_login_is_only_sent_over_tls(server, authority, security):
    there = server(tls=security.value, login=True)
    send_mail(settings(there, authority, security=security, user=USER), PASSWORD, "s", "t")
    assert there.logins == [(USER, True)]
    assert len(there.mails) == 1


def test_a_wrong_password_is_told(server, authority):
    there = server(tls="starttls", login=True)
    with pytest.raises(Refused, match="refused the login: 535"):
        send_mail(settings(there, authority, security=Security.STARTTLS, user=USER), "wrong", "s", "t")
    assert there.mails == []


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize(("user", "password"), [(USER, "p\u00e4ssword"), ("bj\u00f8rn", PASSWORD), (USER, "\u5bc6")])
def test_no_character_of_a_password_that_cannot_be_sent_is_told(server, authority, there, user, password):
    with nobody_there() as port:
        one = server(tls="starttls", login=True)
        at = settings(one, authority, security=Security.STARTTLS, user=user, port=one.port if there else port)
        with pytest.raises(Refused, match="ASCII characters only") as told:
            send_mail(at, password, "s", "t")
    for text in (str(told.value), repr(told.value)):
        assert text.isascii()
        assert "\\x" not in text
        assert "\\u" not in text
    assert one.logins == []


def test_a_message_that_no_mail_can_hold_is_not_quoted(server, authority):
    with pytest.raises(Refused, match="characters that no mail can have") as told:
        send_mail(settings(server(), authority), "", "s", "secret \udce4")
    assert "udce4" not in str(told.value)


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".example"])
def test_a_name_that_no_host_can_have_is_told(server, authority, host):
    with pytest.raises(Unavailable, match="no host can have this name"):
        send_mail(settings(server(), authority, host=host), "", "s", "t")


def test_a_server_without_starttls_gets_nothing(server, authority):
    there = server(login=True)
    with pytest.raises(Refused, match="STARTTLS"):
        send_mail(settings(there, authority, security=Security.STARTTLS, user=USER), PASSWORD, "s", "t")
    assert there.logins == []
    assert there.mails == []


@pytest.mark.parametrize("security", [Security.STARTTLS, Security.TLS])
def test_a_server_that_nobody_vouches_for_gets_nothing(server, authority, security):
    there = server(tls=security.value, login=True)
    stranger = settings(there, authority, security=security, user=USER, ca="")
    with pytest.raises(Refused, match="certificate is not trusted"):
        send_mail(stranger, PASSWORD, "s", "t")
    assert there.logins == []


def test_a_server_that_is_gone_is_told(server, authority):
    with nobody_there() as port, pytest.raises(Unavailable, match="cannot be reached"):
        send_mail(settings(server(), authority, port=port), "", "s", "t")


def test_a_server_that_hangs_up_is_told(authority):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        listener.settimeout(10)

        def hang_up():
            connection, _ = listener.accept()
            connection.sendall(b"220 hello\r\n")
            connection.recv(10)
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        made = MailSettings(
            host="127.0.0.1", port=port, security="plain", sender="a@b.example", recipients=("c@d.example",)
        )
        with pytest.raises(Unavailable, match="broke off"):
            send_mail(made, "", "s", "t")
        thread.join()


def test_when_all_recipients_are_refused_nothing_was_sent(server, authority):
    there = server(turned_away=["anna@office.example", "ben@office.example"])
    with pytest.raises(Refused, match="550 no such person"):
        send_mail(settings(there, authority), "", "s", "t")


def test_when_one_is_refused_the_others_have_it(server, authority):
    there = server(turned_away=["ben@office.example"])
    with pytest.raises(PartlySent, match="ben@office"):
        send_mail(settings(there, authority), "", "s", "t")
    assert there.mails[-1][0] == ["anna@office.example"]
