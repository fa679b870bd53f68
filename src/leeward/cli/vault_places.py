"""Where the vault is: given with `leeward vault init` and `unlock`, looked at, and its credentials renewed."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from leeward.cli.context import JSON, current
from leeward.cli.output import out, print_json
from leeward.domain.errors import BadInput, LeewardError, NotFound, Refused

if TYPE_CHECKING:
    from leeward.cli.config import Settings
    from leeward.vault.place import Place

PlaceText = Annotated[
    str | None,
    typer.Option("--place", help="Where the vault is: /folder, s3://bucket/prefix or azure://container/prefix."),
]
OptionsFile = Annotated[
    Path | None,
    typer.Option(
        "--place-options",
        help="File with endpoint, region, credentials … of that place as a JSON document; - reads standard input.",
    ),
]
_LARGEST = 1 << 20
_TOLD_S = 60.0


def try_options(settings: Settings, url: str | None, file: Path | None) -> Place | None:
    """What the options say, once it has been tried; None when they say nothing. Raises LeewardError."""
    from leeward.vault.place import place_of, try_place

    if url is None:
        if file is not None:
            raise BadInput("--place-options needs --place")
        return None
    if settings.place.given is not None:
        raise Refused(
            "leeward.toml says where the vault is, and counts more",
            subject=str(settings.path),
            hint="Take its [vault] section out first",
        )
    place = place_of(url, _read(file) if file else {})
    try_place(place)
    return place


def keep(settings: Settings, place: Place) -> None:
    """Whatever runs on this machine goes over to it by itself."""
    settings.place.supersede(place, time.time())


def _read(file: Path) -> dict[str, Any]:
    """Never from the command line, which every user of the machine can see. Raises BadInput."""
    try:
        text = sys.stdin.read(_LARGEST) if str(file) == "-" else file.read_text()
        found = json.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"the options cannot be read: {error}", subject=str(file)) from None
    except ValueError:
        raise BadInput("this is not JSON", subject=str(file)) from None
    if not isinstance(found, dict):
        raise BadInput("the options are not a JSON object", subject=str(file))
    return found


def wait_for_place(settings: Settings) -> None:
    """On a host that was just enrolled the agent is told a moment later where the vault is."""
    from leeward.agent.identity import load_identity

    place = settings.place
    try:
        load_identity(settings.daemon.state)
    except LeewardError:
        return
    ends = time.monotonic() + _TOLD_S
    while place.given is None and place.chosen() is None:
        if time.monotonic() > ends:
            raise NotFound(
                "the console has not told yet where the vault is",
                hint="See that the agent runs and has a line (`leeward agent status`), or give --place",
            )
        time.sleep(0.2)


def show_place(as_json: JSON = False) -> None:
    """Where the vault is for this machine, and who says so. No secret is shown."""
    settings = current().settings()
    file, found = settings.place, settings.place.current()
    source = "leeward.toml" if file.given is not None else "chosen" if found.revision else "default"
    document = {
        "url": found.url,
        "kind": found.kind,
        "source": source,
        "options": found.plain,
        "secrets": sorted(found.secret),
    }
    if as_json:
        print_json(document)
        return
    said = {"leeward.toml": "as leeward.toml says", "chosen": "as it was chosen", "default": "nothing was chosen yet"}
    out.print(f"[bold]{found.url}[/]   {said[source]}", soft_wrap=True)
    for name, value in found.plain.items():
        out.print(f"  {name}   {'yes' if value is True else '(kept)' if name == 'ca' else value}", soft_wrap=True)
    for name in sorted(found.secret):
        out.print(f"  {name}   (kept, not shown)")


def credentials(
    file: Annotated[Path, typer.Argument(help="File with the new ones as a JSON document; - reads standard input.")],
    as_json: JSON = False,
) -> None:
    """Use other credentials for the vault's place, once they have been tried. What runs goes over to them by itself,
    agents on other hosts too."""
    from leeward.agent.keys import load_keys
    from leeward.vault.place import must_hold, try_place, with_credentials

    settings = current().settings()
    now = None if settings.place.given is not None else settings.place.chosen()
    if now is None or now.kind == "folder":
        raise Refused(
            "this place needs no credentials that are kept here",
            subject=settings.place.url,
            hint="Where leeward.toml says where the vault is, they are in the environment",
        )
    changed = with_credentials(now, _read(file))
    found = try_place(changed)
    try:
        in_use = load_keys(settings.daemon.state).vault_id
    except NotFound:
        in_use = None  # it was never unlocked here
    must_hold(changed, found, in_use)
    keep(settings, changed)
    if as_json:
        print_json({"url": changed.url, "renewed": True})
    else:
        out.print(f"[green]●[/] The new credentials for {changed.url} work, and are used from now on", soft_wrap=True)
