"""Mail: one message handed to a mail server; what may go wrong is said so that an operator can mend it."""

from __future__ import annotations

import platform
import smtplib
import ssl
from contextlib import suppress
from email.message import EmailMessage
from email.utils import format_datetime, localtime, make_msgid

from leeward import __version__
from leeward.console.alerts.settings import NO_NAME, MailSettings, Security, names_a_host
from leeward.domain.errors import Refused, Unavailable

# For each answer of the server.
_TIMEOUT_S = 15.0


def message(settings: MailSettings, subject: str, text: str) -> EmailMessage:
    made = EmailMessage()
    made["From"], made["To"] = settings.sender, ", ".join(settings.recipients)
    made["Subject"] = " ".join(subject.split())  # what VMs are called must not begin another header
    made["Date"], made["Message-ID"] = format_datetime(localtime()), make_msgid(domain=_domain(settings))
    # Holiday notices are not to be sent in answer (RFC 3834).
    made["Auto-Submitted"], made["User-Agent"] = "auto-generated", f"Leeward {__version__}"
    made.set_content(text, charset="utf-8")
    return made


def _domain(settings: MailSettings) -> str:
    return settings.sender.rpartition("@")[2]


def send_mail(settings: MailSettings, password: str, subject: str, text: str) -> None:
    """Raises LeewardError. Returns when the server has taken the message for all recipients."""
    where = f"{settings.host}:{settings.port}"
    if settings.user and not (settings.user + password).isascii():
        # smtplib would stumble over the character and quote it: one of the password, for logs and pages.
        raise Refused("the login takes ASCII characters only, in user name and password", subject=where)
    try:
        server = _connect(settings)
        try:
            if settings.security is Security.STARTTLS:
                server.starttls(context=_context(settings))
            if settings.user:
                server.login(settings.user, password)
            turned_away = server.send_message(message(settings, subject, text))
        finally:
            with suppress(smtplib.SMTPException, OSError):
                server.quit()
    except smtplib.SMTPAuthenticationError as error:
        raise Refused(f"the mail server refused the login: {_words(error)}", subject=where) from None
    except smtplib.SMTPRecipientsRefused as error:
        raise Refused(_turned_away(error.recipients), subject=where) from None
    except smtplib.SMTPSenderRefused as error:
        raise Refused(f"the mail server refused the sender: {_words(error)}", subject=where) from None
    except smtplib.SMTPNotSupportedError as error:
        raise Refused(f"the mail server cannot do this: {error}", subject=where) from None
    except smtplib.SMTPResponseException as error:
        raise Refused(f"the mail server refused the message: {_words(error)}", subject=where) from None
    except ssl.SSLCertVerificationError as error:
        raise Refused(
            f"the mail server's certificate is not trusted: {error.verify_message}", subject=where
        ) from None
    except ssl.SSLError as error:
        raise Refused(f"no TLS with the mail server: {error.reason or error}", subject=where) from None
    except smtplib.SMTPException as error:
        raise Unavailable(f"the mail server broke off: {error}", subject=where) from None
    except UnicodeError:  # its words quote what they are about
        raise Refused("the message has characters that no mail can have", subject=where) from None
    except OSError as error:
        raise Unavailable(f"the mail server cannot be reached: {error}", subject=where) from None
    if turned_away:
        raise PartlySent(_turned_away(turned_away), subject=where)


class PartlySent(Refused):
    """Some of the recipients have the message: it must not be sent to them again."""

    code = "partly-sent"


def _connect(settings: MailSettings) -> smtplib.SMTP:
    me = platform.node() or "localhost"
    if not names_a_host(settings.host):
        raise Unavailable(f"the mail server cannot be reached: {NO_NAME}", subject=settings.host)
    if settings.security is Security.TLS:
        return smtplib.SMTP_SSL(settings.host, settings.port, me, timeout=_TIMEOUT_S, context=_context(settings))
    return smtplib.SMTP(settings.host, settings.port, me, timeout=_TIMEOUT_S)


def _context(settings: MailSettings) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=settings.ca or None)


def _words(error: smtplib.SMTPResponseException) -> str:
    said = error.smtp_error.decode("utf-8", "replace") if isinstance(error.smtp_error, bytes) else error.smtp_error
    return f"{error.smtp_code} {' '.join(str(said).split())}"


def _turned_away(recipients: dict[str, tuple[int, bytes]]) -> str:
    told = "; ".join(
        f"{name}: {code} {' '.join(words.decode('utf-8', 'replace').split())}"
        for name, (code, words) in recipients.items()
    )
    return f"the mail server refused recipients: {told}"
