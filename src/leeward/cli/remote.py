"""A console on another machine: found, trusted, asked over HTTPS."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from leeward.cli.asking import Asker
from leeward.domain.errors import BadInput, LeewardError, Unavailable

if TYPE_CHECKING:
    import httpx

USUAL_PORT = 8443


@dataclass(frozen=True, slots=True)
class Target:
    """One console. ca: PEM of the authority that vouches for it, None for those that the system trusts."""

    url: str
    token: str | None = None
    ca: str | None = None


class Distrusted(LeewardError):
    """The console's certificate is not one that we trust."""

    code = "distrusted"


class RemoteClient(Asker):
    def __init__(self, target: Target, context: ssl.SSLContext | None = None) -> None:
        """context: another one than follows from the target, to look before there is trust."""
        import httpx  # takes longer than a command that asks nobody

        self._target = target
        headers = {"Authorization": f"Bearer {target.token}"} if target.token else {}
        self._http = httpx.Client(
            verify=context or trust(target.ca), base_url=f"{target.url}/api/v1", headers=headers, timeout=120
        )

    def _send(self, method: str, path: str, **more: Any) -> httpx.Response:
        import httpx

        try:
            return self._http.request(method, path, **more)
        except httpx.TransportError as error:
            raise _unreached(error, self._target.url) from None

    def _where(self) -> str:
        return f"Look at the log on {self._target.url}"


def _unreached(error: httpx.TransportError, url: str) -> LeewardError:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Distrusted(
                f"the console's certificate is not trusted: {cause.verify_message.rstrip('.')}",
                subject=url,
                hint="Sign in again (`leeward login`), and look at the fingerprint; names for the certificate are "
                "set in [console] of the console's configuration",
            )
        cause = cause.__cause__ or cause.__context__
    return Unavailable(f"the console does not answer: {error}", subject=url)


def trust(ca: str | None) -> ssl.SSLContext:
    """Certificates of this authority alone, or those that the system trusts. Raises BadInput."""
    try:
        context = ssl.create_default_context(cadata=ca)
    except ssl.SSLError as error:
        raise BadInput(f"the authority's certificate cannot be used: {error}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def blind() -> ssl.SSLContext:
    """Trusts anybody. Only to ask for what is then compared with a fingerprint; no secret may be sent with it."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def console_url(text: str) -> str:
    """https://host:port of what people write. Raises BadInput."""
    parts = urlsplit(text if "://" in text else f"https://{text}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if parts.scheme != "https" or not host or parts.path not in ("", "/") or parts.query or parts.username:
        raise BadInput("this is no console's address", subject=text, hint=f"Write it like https://host:{USUAL_PORT}")
    shown = f"[{host}]" if ":" in host else host
    return f"https://{shown}:{port or USUAL_PORT}"


def ca_from_environment() -> str | None:
    """$LEEWARD_CA: file with the authority's certificate, for machines on which nobody signs in."""
    path = os.environ.get("LEEWARD_CA")
    return read_ca(Path(path)) if path else None


def read_ca(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"the authority's certificate cannot be read: {error}", subject=str(path)) from None
