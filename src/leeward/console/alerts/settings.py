"""What can be set for alerts, and where that is kept."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from sqlalchemy import bindparam, delete, select

from leeward.console.alerts.sealing import Sealer
from leeward.console.troubles import Limits
from leeward.domain.alerts import AlertKind, Patience
from leeward.state.alerts import owe
from leeward.state.database import Database
from leeward.state.tables import AlertSetting, AlertTelling

MAIL, WEBHOOK = "mail", "webhook"
_RULES = "rules"
_DAY_S = 86_400.0
# A stalled replication is told of when it lasts, not for each cycle that fails.
_PROTECTION_S = 60.0
LEAST_SECRET = 16
# Why whom a name does not name cannot be reached.
NO_NAME = "no host can have this name"


class Security(StrEnum):
    """STARTTLS: begins in clear and must turn to TLS before anything is said. TLS: from the first byte. PLAIN: never
    any."""

    STARTTLS = "starttls"
    TLS = "tls"
    PLAIN = "plain"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Rules(_Model):
    """rpo_grace_s, host_grace_s, vault_grace_s: how long a missed RPO, a lost host, an absent vault is borne. full:
    percent of the vault's file system. drill_days, remind_h: 0 for never. language, zone: of messages."""

    rpo_grace_s: float = Field(default=300.0, ge=0, le=7 * _DAY_S)
    host_grace_s: float = Field(default=60.0, ge=0, le=_DAY_S)
    vault_grace_s: float = Field(default=60.0, ge=0, le=_DAY_S)
    full: int = Field(default=90, ge=50, le=99)
    drill_days: int = Field(default=90, ge=0, le=3650)
    remind_h: int = Field(default=24, ge=0, le=720)
    language: str = "en"
    zone: str = "UTC"

    @property
    def limits(self) -> Limits:
        return Limits(self.drill_days * _DAY_S, self.full / 100)

    @property
    def patience(self) -> Patience:
        return Patience(
            {
                AlertKind.RPO: self.rpo_grace_s,
                AlertKind.PROTECTION: _PROTECTION_S,
                AlertKind.HOST: self.host_grace_s,
                AlertKind.VAULT: self.vault_grace_s,
                AlertKind.VAULT_LOCKED: self.vault_grace_s,
                AlertKind.VAULT_PLACE: self.vault_grace_s,
            }
        )

    @property
    def remind_s(self) -> float:
        return self.remind_h * 3600.0


def _certificates(text: str) -> str:
    if text.strip():
        try:
            ssl.create_default_context(cadata=text)
        except (ssl.SSLError, ValueError, TypeError):  # TypeError: for what is not ASCII
            raise ValueError("no certificates") from None
    return text


def _address(text: str) -> str:
    local, at, domain = text.rpartition("@")
    if not (at and local and domain) or not text.isprintable() or any(sign in text for sign in ' ,;<>()[]"\\'):
        raise ValueError("no address")
    return text


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or " " in text:
        raise ValueError("no address")
    _ = parts.port  # raises ValueError for one that is none
    return text


def names_a_host(name: str) -> bool:
    """Whether a resolver takes it at all: for parts that are empty or too long it raises UnicodeError, no OSError.

    Not a condition of the settings: stored ones must be read to be mended.
    """
    try:
        return bool(name.encode("idna"))
    except UnicodeError:
        return False


Certificates = Annotated[str, Field(max_length=100_000), AfterValidator(_certificates)]
Address = Annotated[str, Field(max_length=254), AfterValidator(_address)]


class MailSettings(_Model):
    """user: "" for no login. ca: PEM of an authority that vouches for the server, "" for those the system trusts."""

    enabled: bool = False
    host: str = Field(min_length=1, max_length=253, pattern=r"^[^\s/@]+$")
    port: int = Field(default=587, ge=1, le=65_535)
    security: Security = Security.STARTTLS
    user: str = Field(default="", max_length=254)
    sender: Address
    recipients: tuple[Address, ...] = Field(min_length=1, max_length=50)
    ca: Certificates = ""


class WebhookSettings(_Model):
    """ca: as in MailSettings."""

    enabled: bool = False
    url: Annotated[str, Field(max_length=2000), AfterValidator(_url)]
    ca: Certificates = ""


ChannelSettings = MailSettings | WebhookSettings
_MODELS: dict[str, type[MailSettings] | type[WebhookSettings]] = {MAIL: MailSettings, WEBHOOK: WebhookSettings}
_Kept = TypeVar("_Kept", bound=ChannelSettings)
# Asked every few seconds: see `leeward.state.runs`.
_SETTING = select(*AlertSetting.__table__.columns).where(AlertSetting.name == bindparam("setting"))


@dataclass(frozen=True, slots=True)
class Channel:
    """good, failed, error, tries, again: as in AlertSetting. has_secret: there is one, readable or not."""

    name: str
    settings: ChannelSettings
    has_secret: bool
    good: float | None
    failed: float | None
    error: str
    tries: int
    again: float


class AlertSettings:
    """Thread-safe."""

    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._database, self._sealer = database, sealer

    def rules(self) -> Rules:
        with self._database.looking() as connection:
            row = connection.execute(_SETTING, {"setting": _RULES}).one_or_none()
        return Rules.model_validate_json(row.document) if row else Rules()

    def save_rules(self, rules: Rules) -> None:
        with self._database.writing() as session:
            session.merge(AlertSetting(name=_RULES, document=rules.model_dump_json()))

    def channel(self, name: str) -> Channel | None:
        """None while nothing was set."""
        with self._database.looking() as connection:
            row = connection.execute(_SETTING, {"setting": name}).one_or_none()
        if row is None:
            return None
        settings = _MODELS[name].model_validate_json(row.document)
        return Channel(name, settings, bool(row.secret), row.good, row.failed, row.error, row.tries, row.again)

    def secret(self, name: str) -> str:
        """ "" when there is none. Raises Unavailable for one that cannot be read."""
        with self._database.reading() as session:
            row = session.get(AlertSetting, name)
            sealed = row.secret if row else ""
        return self._sealer.open(sealed, name) if sealed else ""

    def save_channel(self, name: str, settings: ChannelSettings, secret: str | None) -> None:
        """secret: None leaves the one there is. What is open is told by a channel that is turned on; one that is
        turned off forgets what it had to tell."""
        with self._database.writing() as session:
            row = session.get(AlertSetting, name, with_for_update=True)
            if row is None:
                row = AlertSetting(name=name)
                session.add(row)
            row.document, row.enabled = settings.model_dump_json(), settings.enabled
            if secret is not None:
                row.secret = self._sealer.seal(secret, name) if secret else ""
            row.failed, row.error, row.tries, row.again = None, "", 0, 0.0
            session.flush()
            if settings.enabled:
                owe(session)
            else:
                session.execute(delete(AlertTelling).where(AlertTelling.channel == name))
