"""`leeward login`, `logout` and `whoami`."""

from __future__ import annotations

import hashlib
import os
import re
import ssl
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from leeward.cli.asking import RemoteError
from leeward.cli.context import JSON, current
from leeward.cli.logins import Logins
from leeward.cli.output import err, out, print_json
from leeward.cli.remote import Distrusted, RemoteClient, Target, blind, console_url, read_ca
from leeward.domain.errors import BadInput, LeewardError, NotFound, Refused, Unavailable

PasswordFile = Annotated[
    Path | None, typer.Option("--password-file", help="File whose first line is the password; - for standard input.")
]


def read_password(file: Path | None, prompt: str, *, new: bool = False) -> str:
    """From the file or the terminal. Raises BadInput where neither is there."""
    if file is not None:
        try:
            lines = (sys.stdin.read() if str(file) == "-" else file.read_text()).splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"the password cannot be read: {error}", subject=str(file)) from None
        if not lines or not lines[0]:
            raise BadInput("the password file is empty", subject=str(file))
        return lines[0]
    if sys.stdin.isatty():
        return str(typer.prompt(prompt, hide_input=True, confirmation_prompt=new, err=True))
    raise BadInput("a password is needed", hint="Give --password-file, or run this in a terminal")


def login(
    console: Annotated[str, typer.Argument(help="Address of the console, like https://host:8443[,…].")],
    user: Annotated[str | None, typer.Option(help="User name; asked for without it.")] = None,
    fingerprint: Annotated[
        str | None, typer.Option(help="Of the console's certificate authority, from a place you trust.")
    ] = None,
    ca: Annotated[Path | None, typer.Option("--ca", help="File with the authority's certificate.")] = None,
    password_file: PasswordFile = None,
    setup_code: Annotated[
        str | None, typer.Option("--setup-code", help="Make the first user, an admin, with this code.")
    ] = None,
    as_json: JSON = False,
) -> None:
    """Sign in to a console on another machine; from then on commands are for it, until `leeward logout`.

    What vouches for the console is kept, and nothing else is believed later. With $LEEWARD_TOKEN, that is stored and
    no password is asked for.
    """
    url = console_url(console)
    pinned = _establish_trust(url, read_ca(ca) if ca else None, fingerprint)
    token = os.environ.get("LEEWARD_TOKEN")
    if not token:
        token = _sign_in(RemoteClient(Target(url, ca=pinned)), user, password_file, setup_code)
    target = Target(url, token, pinned)
    session = RemoteClient(target).get("/session")
    Logins.load().with_login(target).save()
    shown = {"console": url, **_session(session), "fingerprint": fingerprint_of(pinned) if pinned else None}
    if as_json:
        print_json(shown)
        return
    out.print(f"[green]●[/] Signed in to [bold]{url}[/] as {session['who']} ({session['role']})")
    out.print("  Commands go there from now on; [bold]leeward logout[/] ends that, --console local asks this machine")


def _sign_in(client: RemoteClient, user: str | None, password_file: Path | None, setup_code: str | None) -> str:
    if user is None:
        if not sys.stdin.isatty():
            raise BadInput("a user name is needed", hint="Give --user, or run this in a terminal")
        user = typer.prompt("User", err=True)
    password = read_password(password_file, f"Password of {user}", new=setup_code is not None)
    if setup_code is not None:
        client.post("/setup", {"code": setup_code, "user": user, "password": password})
    token: str = client.post("/login", {"user": user, "password": password, "kind": "cli"})["token"]
    return token


def _establish_trust(url: str, ca: str | None, fingerprint: str | None) -> str | None:
    """PEM of the authority to believe from now on, None for the system's own. No secret is sent before this is done.

    Raises Refused when the console is another one than the fingerprint says.
    """
    if ca is None and fingerprint is None:
        try:
            RemoteClient(Target(url)).get("/health")
            return None
        except Distrusted:
            pass
    if ca is None:
        ca = _ask_for_ca(url)
    shown = fingerprint_of(ca)
    if fingerprint is not None:
        if _bare(fingerprint) != _bare(shown):
            raise Refused(
                f"the console's authority has another fingerprint: {shown}",
                subject=url,
                hint="Either the fingerprint is another console's, or somebody stands between you and it",
            )
    elif sys.stdin.isatty():
        err.print(f"The console at {url} is vouched for by an authority with the fingerprint\n")
        err.print(f"    {shown}\n", soft_wrap=True)
        err.print("It is shown there by `leeward user setup-code` and in the daemon's log.")
        if not typer.confirm("Is it this one?", err=True):
            raise Refused("nothing was stored", subject=url)
    else:
        raise BadInput(
            f"nobody is here to compare the console's fingerprint: {shown}", subject=url, hint="Give --fingerprint"
        )
    RemoteClient(Target(url, ca=ca)).get("/health")
    return ca


def _ask_for_ca(url: str) -> str:
    try:
        answer = RemoteClient(Target(url), blind()).get("/ca")
        return str(answer["certificate"])
    except (RemoteError, KeyError, TypeError):
        raise NotFound(
            "the console has a certificate that this machine does not trust, and no authority of its own",
            subject=url,
            hint="Give the authority's certificate with --ca FILE",
        ) from None


def fingerprint_of(pem: str) -> str:
    """SHA-256 as browsers and openssl show it: AB:CD:…"""
    try:
        der = ssl.PEM_cert_to_DER_cert(pem[pem.index("-----BEGIN CERTIFICATE") :].strip())
    except ValueError:
        raise BadInput("this is no certificate") from None
    return hashlib.sha256(der).digest().hex(":").upper()


def _bare(fingerprint: str) -> str:
    return re.sub(r"[^0-9a-f]", "", fingerprint.lower().removeprefix("sha256"))


def logout(
    console: Annotated[str | None, typer.Argument(help="Address; the one signed in to without it.")] = None,
    as_json: JSON = False,
) -> None:
    """Sign out of a console and forget it; commands are for this machine's daemon again."""
    logins = Logins.load()
    url = console_url(console) if console else logins.current
    if url is None or url not in logins.targets:
        raise Refused("you are not signed in", subject=url or "")
    told = ""
    try:
        RemoteClient(logins.targets[url]).delete("/session")
    except (Unavailable, Distrusted) as error:
        told = f"The console was not told, and the login holds there until it ends by itself: {error}"
    except LeewardError:
        pass  # over already, or a token, which goes on to hold
    logins.without(url).save()
    if as_json:
        print_json({"console": url, "told": not told})
        return
    out.print(f"● Signed out of [bold]{url}[/]")
    if told:
        err.print(told)


def whoami(as_json: JSON = False) -> None:
    """Which console commands go to, and as whom."""
    target = current().target()
    session = current().client().get("/session")
    shown = {"console": target.url if target else "local", **_session(session)}
    if as_json:
        print_json(shown)
        return
    until = f", until {session['expires']}" if session["expires"] else ""
    out.print(f"[bold]{session['who']}[/] ({session['role']}) on {shown['console']}{until}")


def _session(session: dict[str, Any]) -> dict[str, Any]:
    return {name: session[name] for name in ("who", "user", "role", "via", "expires")}
