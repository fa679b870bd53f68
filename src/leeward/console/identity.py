"""Who may use the console: everything that belongs to it, put together over one database."""

from __future__ import annotations

from dataclasses import dataclass

from leeward.console.gate import Gate
from leeward.console.passwords import Cost, Passwords
from leeward.console.reception import IDLE_S, Reception
from leeward.console.trail import Trail
from leeward.state.accounts import Accounts
from leeward.state.audit import AuditLog
from leeward.state.credentials import Credentials
from leeward.state.database import Database


@dataclass(frozen=True, slots=True)
class Identity:
    """authority: (certificate as PEM, fingerprint) of the console's own CA, None when it has none."""

    gate: Gate
    trail: Trail
    reception: Reception
    audit: AuditLog
    authority: tuple[str, str] | None


def build_identity(
    database: Database, authority: tuple[str, str] | None = None, cost: Cost | None = None
) -> Identity:
    credentials = Credentials(database, IDLE_S)
    audit = AuditLog(database)
    reception = Reception(Accounts(database), credentials, Passwords(cost))
    return Identity(Gate(credentials), Trail(audit), reception, audit, authority)
