"""A console on another machine: found, trusted, asked over HTTPS; of several on one database, the active one."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from leeward.cli.asking import Asker, without_number
from leeward.domain.errors import BadInput, LeewardError, Unavailable

if TYPE_CHECKING:
    import httpx

USUAL_PORT = 8443
# Where there is another one to ask, one that is off must not hold every command for long.
_CONNECT_S = 5.0


@dataclass(frozen=True, slots=True)
class Target:
    """One console. url: or several with commas between, that share a database and the authority. ca: PEM of the
    authority that vouches for it, None for those that the system trusts."""

    url: str
    token: str | None = None
    ca: str | None = None

    @property
    def urls(self) -> list[str]:
        return self.url.split(",")


class Distrusted(LeewardError):
    """The console's certificate is not one that we trust."""

    code = "distrusted"


class RemoteClient(Asker):
    def __init__(self, target: Target, context: ssl.SSLContext | None = None, *, timeout_s: float = 120.0) -> None:
        """context: another one than follows from the target, to look before there is trust."""
        import httpx  # takes longer than a command that asks nobody

        self._target = target
        headers = {"Authorization": f"Bearer {target.token}"} if target.token else {}
        verify = context or trust(target.ca)
        timeout = httpx.Timeout(timeout_s, connect=min(timeout_s, _CONNECT_S if len(target.urls) > 1 else timeout_s))
        self._consoles = [
            (url, httpx.Client(verify=verify, base_url=f"{url}/api/v1", headers=headers, timeout=timeout))
            for url in target.urls
        ]

    def _send(self, method: str, path: str, **more: Any) -> httpx.Response:
        """To the one that works: the next is asked where one cannot be reached or stands by."""
        import httpx

        standby: httpx.Response | None = None
        trouble: LeewardError | None = None
        for place, (url, http) in enumerate(self._consoles):
            try:
                answer = http.request(method, path, **more)
            except httpx.TransportError as error:
                trouble = trouble or _unreached(error, url)
                # What may have been heard must not be said again to another one.
                if method != "GET" and not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
                    raise trouble from None
                continue
            if not _stands_by(answer):
                self._consoles.insert(0, self._consoles.pop(place))
                return answer
            standby = answer
        if standby is not None:
            return standby
        assert trouble is not None
        raise trouble

    def _where(self) -> str:
        return f"Look at the log on {self._target.url}"


def _stands_by(answer: httpx.Response) -> bool:
    if answer.status_code != 503:
        return False
    try:
        return bool(answer.json()["error"]["code"] == "standby")
    except (ValueError, KeyError, TypeError):
        return False


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
    return Unavailable(f"the console does not answer: {without_number(error)}", subject=url)


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
    """https://host:port of what people write; of several with commas between, each. Raises BadInput."""
    return ",".join(dict.fromkeys(_one_url(one.strip()) for one in text.split(",")))


def _one_url(text: str) -> str:
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
