"""`leeward user …`, `leeward token …` and `leeward audit`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from leeward.cli.asking import Asker, RemoteError
from leeward.cli.context import JSON, current
from leeward.cli.names import complete_token, complete_user
from leeward.cli.output import audit_table, err, out, print_json, table
from leeward.cli.signing import PasswordFile, read_password
from leeward.cli.units import seconds, show_time

user_app = typer.Typer(no_args_is_help=True, help="Who may use the console.")
token_app = typer.Typer(no_args_is_help=True, help="Secrets for programs that use the console.")


class RoleChoice(StrEnum):
    viewer = "viewer"
    operator = "operator"
    admin = "admin"


Role = Annotated[
    RoleChoice, typer.Option("--role", help="viewer: look; operator: also protect and fail over; admin: also users.")
]
NewName = Annotated[str, typer.Argument(help="Name of the user.")]
Name = Annotated[str, typer.Argument(help="Name of the user.", autocompletion=complete_user)]


@user_app.command("list")
def list_users(as_json: JSON = False) -> None:
    """All users and their roles."""
    users = current().client().get("/users")
    if as_json:
        print_json(users)
        return
    shown = table("USER", "ROLE", "SINCE")
    for user in users:
        shown.add_row(user["name"], user["role"], show_time(user["created"]))
    out.print(shown if users else "There are no users yet. Add one with `leeward user add`.")


@user_app.command("add")
def add_user(
    name: NewName, role: Role = RoleChoice.viewer, password_file: PasswordFile = None, as_json: JSON = False
) -> None:
    """Add a user. The password comes from the file or the terminal."""
    password = read_password(password_file, f"Password of {name}", new=True)
    user = current().client().post("/users", {"name": name, "password": password, "role": role})
    _told(user, f"[green]●[/] [bold]{user['name']}[/] is {user['role']}", as_json)


@user_app.command("remove")
def remove_user(name: Name, as_json: JSON = False) -> None:
    """Remove a user; the logins and tokens of the user end at once."""
    done = current().client().delete(f"/users/{quote(name, safe='')}")
    _told(done, f"● [bold]{done['name']}[/] is removed", as_json)


@user_app.command("role")
def set_role(
    name: Name, role: Annotated[RoleChoice, typer.Argument(help="The new role.")], as_json: JSON = False
) -> None:
    """Change what a user may do; it counts at once."""
    user = current().client().put(f"/users/{quote(name, safe='')}/role", {"role": role})
    _told(user, f"● [bold]{user['name']}[/] is {user['role']}", as_json)


@user_app.command("passwd")
def set_password(
    name: Name,
    password_file: PasswordFile = None,
    current_file: Annotated[
        Path | None, typer.Option("--current-file", help="File with the present password, for one's own.")
    ] = None,
    as_json: JSON = False,
) -> None:
    """Change a password; the user's other logins end. For one's own, the present one is asked for first."""
    client = current().client()
    body: dict[str, Any] = {}
    if client.get("/session")["user"] == name.lower():
        body["current"] = read_password(current_file, "Present password")
    body["password"] = read_password(password_file, f"New password of {name}", new=True)
    done = client.put(f"/users/{quote(name, safe='')}/password", body)
    _told(done, f"● The password of [bold]{done['name']}[/] is changed", as_json)


@user_app.command("setup-code")
def setup_code(as_json: JSON = False) -> None:
    """A code with which somebody elsewhere makes the first user, an admin. It holds for an hour and once."""
    client = current().client()
    made = {**client.post("/setup-code"), "fingerprint": _fingerprint(client)}
    if as_json:
        print_json(made)
        return
    out.print(f"Set-up code   [bold]{made['code']}[/]   (until {made['expires']})")
    if made["fingerprint"]:
        out.print(f"Fingerprint   {made['fingerprint']}", soft_wrap=True)
    out.print("\nUse it with [bold]leeward login https://this-machine:8443 --setup-code CODE[/]")


def _fingerprint(client: Asker) -> str | None:
    try:
        return str(client.get("/ca")["fingerprint"])
    except RemoteError:
        return None


@token_app.command("list")
def list_tokens(as_json: JSON = False) -> None:
    """Your tokens; an admin sees all."""
    tokens = current().client().get("/tokens")
    if as_json:
        print_json(tokens)
        return
    shown = table("ID", "NAME", "ROLE", "OWNER", "EXPIRES", "LAST USED")
    for token in tokens:
        owner = token["owner"] or "–"
        ends, used = (show_time(token[when]) if token[when] else "never" for when in ("expires", "last_used"))
        shown.add_row(token["id"], token["name"], token["role"], owner, ends, used)
    out.print(shown if tokens else "There are no tokens.")


@token_app.command("create")
def create_token(
    name: Annotated[str, typer.Argument(help="What it is for.")],
    role: Role = RoleChoice.viewer,
    expires: Annotated[str, typer.Option(help="How long it holds, like 90d; 0 for no end.")] = "90d",
    as_json: JSON = False,
) -> None:
    """Make a token and show it once. It may never do more than you, and goes when you go."""
    life = seconds(expires) or None
    token = current().client().post("/tokens", {"name": name, "role": role, "expires_s": life})
    if as_json:
        print_json(token)
        return
    err.print("This is shown once. Programs send it as `Authorization: Bearer …`, or have it in $LEEWARD_TOKEN:")
    out.print(token["token"], soft_wrap=True)


@token_app.command("revoke")
def revoke_token(
    token: Annotated[str, typer.Argument(help="Id or name of the token.", autocompletion=complete_token)],
    as_json: JSON = False,
) -> None:
    """End a token at once."""
    done = current().client().delete(f"/tokens/{quote(token, safe='')}")
    _told(done, f"● Token [bold]{done['name']}[/] ({done['id']}) is revoked", as_json)


def audit(
    limit: Annotated[int, typer.Option(help="The newest N.", min=1, max=10_000)] = 50,
    before: Annotated[int | None, typer.Option(help="Only those before this number.", min=1)] = None,
    as_json: JSON = False,
) -> None:
    """Who asked the console to change what, from where, and how it ended. Newest first."""
    rows = current().client().get("/audit", limit=limit, before=before)
    if as_json:
        print_json(rows)
        return
    out.print(audit_table(rows) if rows else "Nobody has asked for any change yet.")


def _told(document: dict[str, Any], line: str, as_json: bool) -> None:
    print_json(document) if as_json else out.print(line)
