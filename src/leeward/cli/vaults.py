"""`leeward vault …`, and opening the vault for everything that needs no daemon."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from leeward.cli.context import JSON, current
from leeward.cli.output import err, out, print_json, table
from leeward.cli.units import seconds, show_bytes, show_time
from leeward.cli.vault_places import (
    OptionsFile,
    PlaceText,
    credentials,
    keep,
    show_place,
    try_options,
    wait_for_place,
)
from leeward.domain.errors import BadInput, LeewardError, NotFound, Refused, StoreUnavailable

if TYPE_CHECKING:
    from leeward.cli.config import Settings
    from leeward.vault.place import Place

app = typer.Typer(no_args_is_help=True, help="The vault: where recovery points are kept.")

PassphraseFile = Annotated[
    Path | None, typer.Option("--passphrase-file", help="File whose first line is the passphrase.")
]
# Words would be nicer to read aloud, but need a list; 26 letters and digits without look-alikes are 128 bits.
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"


def read_passphrase(file: Path | None, *, new: bool) -> tuple[str, bool]:
    """(passphrase, True when we made it up). From the file, $LEEWARD_PASSPHRASE or the terminal."""
    if file is not None:
        try:
            text = file.read_text().splitlines()[0]
        except (OSError, IndexError, UnicodeDecodeError) as error:
            raise BadInput(f"the passphrase cannot be read: {error}", subject=str(file)) from None
        return text, False
    if os.environ.get("LEEWARD_PASSPHRASE"):
        return os.environ["LEEWARD_PASSPHRASE"], False
    if sys.stdin.isatty():
        return typer.prompt("Passphrase", hide_input=True, confirmation_prompt=new), False
    if new:
        groups = ["".join(secrets.choice(_ALPHABET) for _ in range(5)) for _ in range(6)]
        return "-".join(groups), True
    raise BadInput(
        "a passphrase is needed",
        hint="Set LEEWARD_PASSPHRASE, run this in a terminal, or `leeward vault unlock` this machine first",
    )


def open_vault(passphrase_file: Path | None = None) -> Any:
    """With the passphrase of a file that is named: whoever does so tries what he has written down. Else with the key
    that this machine holds, or a passphrase from elsewhere. Returns a `leeward.vault.facade.Vault`."""
    from leeward.agent.keys import key_path, load_keys
    from leeward.vault.facade import Vault

    settings = current().settings()
    with known_vault(settings.daemon.state):
        store = settings.place.current().open(create=False)
        if passphrase_file is None and key_path(settings.daemon.state).exists():
            return Vault.open(store, keys=load_keys(settings.daemon.state))
        passphrase, _ = read_passphrase(passphrase_file, new=False)
        return Vault.open(store, passphrase=passphrase)


@contextmanager
def known_vault(state: Path) -> Iterator[None]:
    """Where this machine holds a vault's key there is one: not found, it is away, as the daemon says too."""
    from leeward.agent.keys import key_path

    try:
        yield
    except NotFound as gone:
        if not key_path(state).exists():
            raise
        raise StoreUnavailable(
            gone.message,
            subject=gone.subject,
            hint="This machine holds a vault's key, so there is one: is its disk mounted, and `leeward vault place` "
            "right?",
        ) from None


@contextmanager
def called(vm_id: str, name: str) -> Iterator[None]:
    """The vault knows its VMs by id; people know them by name."""
    try:
        yield
    except LeewardError as error:
        if error.subject == vm_id:
            error.subject = name
        raise


@app.command()
def init(
    passphrase_file: PassphraseFile = None,
    place: PlaceText = None,
    place_options: OptionsFile = None,
    object_lock: Annotated[
        str | None, typer.Option(help="Let the bucket keep each new object for so long, like 30d (S3 object lock).")
    ] = None,
    compliance: Annotated[
        bool, typer.Option("--compliance", help="Nobody at all may shorten that, not even the account's owner.")
    ] = False,
    as_json: JSON = False,
) -> None:
    """Create the vault, and show its recovery key once: where leeward.toml says, or else where --place does.

    The passphrase comes from --passphrase-file, $LEEWARD_PASSPHRASE or the terminal; without any of these a strong
    one is made up and shown. Either the passphrase or the recovery key opens the vault; without both nobody can.
    """
    from leeward.agent.keys import save_keys
    from leeward.vault.facade import Vault, fingerprint

    settings = current().settings()
    passphrase, made_up = read_passphrase(passphrase_file, new=True)
    if place is not None and settings.place.given is None:
        _must_hold_no_key(settings)
    if chosen := try_options(settings, place, place_options):
        keep(settings, chosen)
    store = settings.place.current().open()
    if object_lock is not None or compliance:
        _set_lock(settings.place.current(), object_lock, compliance)
    vault, recovery = Vault.create(store, passphrase)
    save_keys(settings.daemon.state, vault.keys)
    if as_json:
        document = {
            "vault": str(vault.id),
            "url": vault.store.url,
            "fingerprint": fingerprint(vault.public_key),
            "public_key": vault.public_key.hex(),
            "recovery_key": recovery,
            "passphrase": passphrase if made_up else None,
        }
        print_json(document)
        return
    out.print(f"[green]●[/] Vault created at [bold]{vault.store.url}[/]")
    out.print(f"  Fingerprint   {fingerprint(vault.public_key)}")
    if made_up:
        out.print(f"  Passphrase    [bold]{passphrase}[/]   (made up, since none was given)")
    out.print("\nRecovery key, shown this once. Print it and keep it away from this machine:\n")
    half = len(recovery) // 2
    out.print(f"    [bold]{recovery[:half]}[/]\n    [bold]{recovery[half + 1 :]}[/]\n")
    out.print("Next: [bold]leeward vm list[/], then [bold]leeward protect VM[/]")


def _must_hold_no_key(settings: Settings) -> None:
    """Another vault must not get into the place of one that is in use. Raises Refused."""
    from leeward.agent.keys import key_path

    if key_path(settings.daemon.state).exists():
        raise Refused(
            "this machine works with a vault already, whose place stays",
            subject=settings.place.url,
            hint="A vault that was moved is found again with `leeward vault unlock --place`",
        )


def _set_lock(place: Place, wanted: str | None, compliance: bool) -> None:
    """The bucket's own rule, which holds for all that is put there from now on. Raises BadInput, Refused."""
    from leeward.vault.stores.locking import LockRule, Mode
    from leeward.vault.stores.opening import lock_of

    if wanted is None:
        raise BadInput("--compliance needs --object-lock", hint="Say how long, like --object-lock 30d")
    days = seconds(wanted) / 86_400
    if days < 1 or days != int(days) or days > 36_500:
        raise BadInput("object lock counts in whole days", subject=wanted, hint="Give 1d … 36500d")
    lock = lock_of(place.url, **place.options)
    if lock is None:
        raise Refused(
            "this store has no object lock that can be set from here",
            subject=place.url,
            hint="It is a matter of S3 buckets, with keys of our own; on Azure set an immutability policy",
        )
    lock.set_rule(LockRule(Mode.COMPLIANCE if compliance else Mode.GOVERNANCE, int(days)))


def _lock_shown(place: Place) -> dict[str, Any] | None:
    from leeward.vault.stores.opening import lock_of

    lock = lock_of(place.url, **place.options)
    rule = lock.rule() if lock is not None else None
    return {"mode": rule.mode.lower() if rule.mode else "", "days": rule.days} if rule is not None else None


@app.command()
def unlock(
    passphrase_file: PassphraseFile = None,
    recovery_key: Annotated[str | None, typer.Option(help="The recovery key instead of the passphrase.")] = None,
    place: PlaceText = None,
    place_options: OptionsFile = None,
    as_json: JSON = False,
) -> None:
    """Let this machine use an existing vault: check the passphrase (or recovery key) and keep the vault's key.

    On an enrolled host whose leeward.toml does not say where the vault is, the console tells it; that is waited for.
    """
    from leeward.agent.keys import save_keys
    from leeward.vault.facade import Vault, fingerprint

    settings = current().settings()
    chosen = try_options(settings, place, place_options)
    if chosen is None:
        wait_for_place(settings)
    with known_vault(settings.daemon.state):
        store = (chosen or settings.place.current()).open(create=False)
        if recovery_key:
            vault = Vault.open(store, recovery_key=recovery_key)
        else:
            vault = Vault.open(store, passphrase=read_passphrase(passphrase_file, new=False)[0])
    if chosen is not None:  # not before: what runs here goes over to it, and agents are told
        keep(settings, chosen)
    path = save_keys(settings.daemon.state, vault.keys)
    if as_json:
        print_json({"vault": str(vault.id), "key_file": str(path)})
    else:
        out.print(f"[green]●[/] Vault {fingerprint(vault.public_key)} is unlocked; its key is in {path}")


@app.command()
def info(passphrase_file: PassphraseFile = None, as_json: JSON = False) -> None:
    """What the vault holds: VMs, points, space."""
    found = open_vault(passphrase_file).info()
    vms = [
        {
            "vm": vm.name or vm.vm_id,
            "vm_id": vm.vm_id,
            "points": vm.points,
            "first": _time(vm.first),
            "last": _time(vm.last),
            "objects": vm.objects,
            "bytes": vm.bytes,
        }
        for vm in found.vms
    ]
    document = {
        "vault": found.vault_id,
        "url": found.url,
        "created": found.created,
        "fingerprint": found.fingerprint,
        "objects": found.objects,
        "bytes": found.bytes,
        "object_lock": _lock_shown(current().settings().place.current()),
        "vms": vms,
    }
    if as_json:
        print_json(document)
        return
    out.print(f"[bold]{found.url}[/]   {show_bytes(found.bytes)} in {found.objects:,} objects")
    out.print(f"Fingerprint {found.fingerprint}\nCreated     {show_time(found.created)}\n")
    if kept := document["object_lock"]:
        rule = (
            f"{kept['days']} days each ({kept['mode']})" if kept["mode"] else "as long as each is locked for itself"
        )
        out.print(f"Object lock: the bucket keeps its objects {rule}\n")
    shown = table("VM", "POINTS", "OLDEST", "NEWEST", "OBJECTS", "SIZE", right=("POINTS", "OBJECTS", "SIZE"))
    for vm in vms:
        first, last = (show_time(vm[end]) if vm[end] else "–" for end in ("first", "last"))
        shown.add_row(
            str(vm["vm"]), f"{vm['points']:,}", first, last, f"{vm['objects']:,}", show_bytes(int(vm["bytes"] or 0))
        )
    out.print(shown if vms else "No VM has been protected yet.")


def _time(point: Any) -> str | None:
    from leeward.wire.translate import utc

    return utc(point.time_ns) if point else None


@app.command()
def check(
    keyless: Annotated[bool, typer.Option(help="Use the public key alone: signatures, hashes, order.")] = False,
    public_key: Annotated[str | None, typer.Option(help="Public key in hex, from a trusted place.")] = None,
    deep: Annotated[bool, typer.Option(help="Decrypt everything and compare every block's hash.")] = False,
    passphrase_file: PassphraseFile = None,
    as_json: JSON = False,
) -> None:
    """Verify every object of the vault; name those that are damaged and the points that need them.

    Exit code 7 when something is damaged. --keyless is what a third party can do that must not read the data; with
    --public-key it also proves whose vault it is.
    """
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    from leeward.vault.check import check as check_vault
    from leeward.vault.crypto import PUBLIC_KEY_SIZE

    settings = current().settings()
    with known_vault(settings.daemon.state):
        store = settings.place.current().open(create=False)
        keys = None if keyless else open_vault(passphrase_file).keys
    try:
        trusted = bytes.fromhex(public_key) if public_key else None
    except ValueError:
        raise BadInput("the public key is not hexadecimal", subject=str(public_key)) from None
    if trusted is not None and len(trusted) != PUBLIC_KEY_SIZE:
        raise BadInput(f"a public key has {2 * PUBLIC_KEY_SIZE} hexadecimal digits", subject=str(public_key))
    if deep and keyless:
        raise BadInput("--deep needs the key; leave --keyless out")
    columns = (TextColumn("Checking"), BarColumn(pulse_style="cyan"), DownloadColumn())
    with (
        known_vault(settings.daemon.state),
        # Where nothing can be shown anew it would leave an empty line.
        Progress(*columns, console=err, disable=as_json or not err.is_terminal, transient=True) as bar,
    ):
        task = bar.add_task("check", total=None)
        report = check_vault(
            store, trusted, keys=keys, deep=deep, progress=lambda _, size: bar.update(task, completed=size)
        )
    document = {
        "sound": report.sound,
        "objects": report.objects,
        "bytes": report.bytes,
        "troubles": [{"key": trouble.key, "what": trouble.what} for trouble in report.troubles],
        "hurt_points": report.hurt,
    }
    if as_json:
        print_json(document)
    elif report.sound:
        out.print(f"[green]●[/] Sound: {report.objects:,} objects, {show_bytes(report.bytes)}")
    else:
        for trouble in report.troubles:
            out.print(f"[red]✗[/] {trouble.key}: {trouble.what}")
        for vm_id, points in report.hurt.items():
            out.print(f"  VM {vm_id}: hurt points {', '.join(points)}")
    if not report.sound:
        raise typer.Exit(7)


@app.command()
def cost(
    rpo: Annotated[str, typer.Option(help="Time between points, like 5s or 1m.")] = "5s",
    vms: Annotated[int, typer.Option(min=1, help="Number of protected VMs.")] = 1,
    provider: Annotated[str, typer.Option(help="s3 or azure.")] = "s3",
    as_json: JSON = False,
) -> None:
    """What a choice of RPO costs a year in requests to a cloud vault, at list prices."""
    from leeward.vault.stores.cost import ADVICE, request_cost, whole_dollars

    dollars = request_cost(provider, seconds(rpo), vms)
    if as_json:
        print_json({"provider": provider, "rpo_s": seconds(rpo), "vms": vms, "dollars_a_year": round(dollars, 2)})
    else:
        many = "1 VM" if vms == 1 else f"{vms:,} VMs"
        out.print(f"About ${whole_dollars(dollars):,} a year for {many} at {rpo} on {provider} ({ADVICE}).")


app.command("place")(show_place)
app.command("credentials")(credentials)
