"""`leeward alert settings`, `set` and `test`: when something is an alert, and who hears of it how."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from leeward.cli.context import JSON, current
from leeward.cli.output import out, plain, print_json, table
from leeward.cli.signing import PasswordFile, read_password
from leeward.cli.units import seconds, show_seconds, show_time
from leeward.domain.errors import BadInput

app = typer.Typer(no_args_is_help=True, help="Set a channel or the rules; what is not given stays as it is.")

_PATH = "/alerts/settings"
_STDIN = "-"


class SecurityChoice(StrEnum):
    starttls = "starttls"
    tls = "tls"
    plain = "plain"


class ChannelChoice(StrEnum):
    mail = "mail"
    webhook = "webhook"


On = Annotated[bool | None, typer.Option("--on/--off", help="Whether alerts are told by it.")]
Ca = Annotated[
    Path | None,
    typer.Option("--ca", help="PEM file of an authority that vouches for the server; an empty one: the system's."),
]


def settings(as_json: JSON = False) -> None:
    """How alerts are told, and when something is one. Stored secrets are never shown."""
    found = current().client().get(_PATH)
    if as_json:
        print_json(found)
        return
    shown = table("WHAT", "SETTING", "VALUE")
    for name in ("mail", "webhook"):
        for setting, value in _rows(name, found[name]):
            shown.add_row(f"[bold]{name}[/]" if setting == "state" else "", setting, value)
    for count, (setting, value) in enumerate(_rule_rows(found["rules"])):
        shown.add_row("[bold]rules[/]" if not count else "", setting, value)
    out.print(shown)


@app.command("mail")
def set_mail(
    host: Annotated[str | None, typer.Option("--host", help="Name or address of the mail server.")] = None,
    port: Annotated[int | None, typer.Option("--port", help="Its port; 587 at first.", min=1, max=65_535)] = None,
    security: Annotated[
        SecurityChoice | None, typer.Option("--security", help="starttls (at first), tls from the start, or plain.")
    ] = None,
    user: Annotated[str | None, typer.Option("--user", help='Who signs in; "" for no login.')] = None,
    sender: Annotated[str | None, typer.Option("--sender", help="Address that messages come from.")] = None,
    recipients: Annotated[
        list[str] | None, typer.Option("--to", help="Address that messages go to; once for each. Replaces all.")
    ] = None,
    ca: Ca = None,
    password_file: PasswordFile = None,
    on: On = None,
    as_json: JSON = False,
) -> None:
    """How alerts are told by mail. With --user, the password comes from the file, or is asked for at a terminal."""
    body = _given(host=host, port=port, security=security, user=user, sender=sender, enabled=on, ca=_pem(ca))
    if recipients:
        body["recipients"] = recipients
    if password_file is not None or (user and sys.stdin.isatty()):
        body["password"] = read_password(password_file, f"Password of {user}" if user else "Password")
    _set("mail", body, as_json)


@app.command("webhook")
def set_webhook(
    url: Annotated[
        str | None, typer.Option("--url", help="Address that is posted to; - reads it from standard input.")
    ] = None,
    secret_file: Annotated[
        Path | None,
        typer.Option("--secret-file", help="File whose first line posts are signed with; - for standard input."),
    ] = None,
    ca: Ca = None,
    on: On = None,
    as_json: JSON = False,
) -> None:
    """How alerts are posted to a program. Of many receivers the address alone lets one post: then give --url -."""
    if url == _STDIN:
        if secret_file == Path(_STDIN):
            raise BadInput("only one of them comes from standard input", subject="--url, --secret-file")
        url = sys.stdin.readline().strip()
    body = _given(url=url, enabled=on, ca=_pem(ca))
    if secret_file is not None:
        body["secret"] = read_password(secret_file, "Secret")
    _set("webhook", body, as_json)


@app.command("rules")
def set_rules(
    rpo_grace: Annotated[
        str | None, typer.Option("--rpo-grace", help="How long a missed RPO is borne, like 5m.")
    ] = None,
    host_grace: Annotated[str | None, typer.Option("--host-grace", help="How long a lost host is borne.")] = None,
    vault_grace: Annotated[
        str | None, typer.Option("--vault-grace", help="How long an absent vault is borne.")
    ] = None,
    full: Annotated[int | None, typer.Option("--full", help="Percent of the vault's file system in use.")] = None,
    drill_days: Annotated[
        int | None, typer.Option("--drill-days", help="Days that a good test failover counts; 0: for ever.")
    ] = None,
    remind: Annotated[
        int | None, typer.Option("--remind", help="Hours between reminders; 0 for none.", metavar="HOURS")
    ] = None,
    language: Annotated[str | None, typer.Option("--language", help="Of messages: en or ja.")] = None,
    zone: Annotated[str | None, typer.Option("--zone", help="Time zone of messages, like Asia/Tokyo.")] = None,
    as_json: JSON = False,
) -> None:
    """When something is an alert, and how it is told."""
    graces = {"rpo_grace_s": rpo_grace, "host_grace_s": host_grace, "vault_grace_s": vault_grace}
    body = _given(full=full, drill_days=drill_days, remind_h=remind, language=language, zone=zone)
    body |= {name: _seconds(name, text) for name, text in graces.items() if text is not None}
    if not body:
        raise BadInput("nothing is to be set", subject="rules", hint="See `leeward alert set rules --help`")
    rules = current().client().patch(f"{_PATH}/rules", body)
    if as_json:
        print_json(rules)
        return
    out.print(_listed(_rule_rows(rules)))


def test(channel: Annotated[ChannelChoice, typer.Argument(help="mail or webhook.")], as_json: JSON = False) -> None:
    """Send a test message through a channel as it is set, on or off, and tell what the other side said."""
    done = current().client().post(f"{_PATH}/{channel.value}/test")
    if as_json:
        print_json(done)
    else:
        other = "mail server" if channel is ChannelChoice.mail else "receiver"
        out.print(f"[green]●[/] The {other} has taken the test message")


def _set(channel: str, body: dict[str, Any], as_json: bool) -> None:
    if not body:
        raise BadInput("nothing is to be set", subject=channel, hint=f"See `leeward alert set {channel} --help`")
    view = current().client().patch(f"{_PATH}/{channel}", body)
    if as_json:
        print_json(view)
        return
    out.print(_listed(_rows(channel, view)))
    out.print(f"Try it out with [bold]leeward alert test {channel}[/]")


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _pem(file: Path | None) -> str | None:
    if file is None:
        return None
    try:
        return file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"the certificate cannot be read: {error}", subject="ca") from None


def _seconds(name: str, text: str) -> float:
    try:
        return seconds(text)
    except BadInput as error:
        raise BadInput(error.message, subject=name, hint=error.hint) from None


def _listed(rows: list[tuple[str, str]]) -> Any:
    shown = table("SETTING", "VALUE")
    for row in rows:
        shown.add_row(*row)
    return shown


def _rows(channel: str, view: dict[str, Any] | None) -> list[tuple[str, str]]:
    if view is None:
        return [("state", "[bright_black]○ never set[/]")]
    state = "[green]● on[/]" if view["enabled"] else "[bright_black]○ off[/]"
    if view["failing_since"]:
        state = f"[red]✗ fails since {show_time(view['failing_since'])}[/]: {plain(view['error'])}"
    rows = [("state", state)]
    if view["last_good"]:
        rows.append(("last message", show_time(view["last_good"])))
    if channel == "mail":
        login = f"{plain(view['user'])}, password {_stored(view)}" if view["user"] else "none"
        rows += [
            ("server", f"{plain(view['host'])}:{view['port']}, {view['security']}"),
            ("login", login),
            ("sender", plain(view["sender"])),
            ("recipients", plain(", ".join(view["recipients"]))),
        ]
    else:
        rows += [("url", plain(view["url"])), ("secret", _stored(view))]
    return [*rows, ("authority", "as given" if view["ca"] else "those of the console's system")]


def _stored(view: dict[str, Any]) -> str:
    return "stored" if view["has_secret"] else "missing"


def _rule_rows(rules: dict[str, Any]) -> list[tuple[str, str]]:
    days, hours = rules["drill_days"], rules["remind_h"]
    return [
        ("missed RPO", f"after {show_seconds(rules['rpo_grace_s'])}"),
        ("lost host", f"after {show_seconds(rules['host_grace_s'])}"),
        ("absent vault", f"after {show_seconds(rules['vault_grace_s'])}"),
        ("full vault", f"at {rules['full']} %"),
        ("good test counts", f"{days} days" if days else "for ever"),
        ("reminders", f"every {hours} h" if hours else "none"),
        ("language, zone", f"{plain(rules['language'])}, {plain(rules['zone'])}"),
    ]
