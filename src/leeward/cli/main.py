"""The command's entry: commands put together, errors on one line, exit codes."""

from __future__ import annotations

import gc
import inspect
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from leeward import __version__
from leeward.cli import (
    agent,
    agents,
    alerts,
    consoles,
    discovery,
    drills,
    evidence,
    failover,
    hosts,
    moves,
    plans,
    portal,
    protection,
    pruning,
    signing,
    users,
    vaults,
)
from leeward.cli.confirming import Declined
from leeward.cli.context import current
from leeward.cli.output import err, print_json
from leeward.domain.errors import BadInput, Forbidden, LeewardError
from leeward.logs import log

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

# typer keeps a click of its own; of its errors only this one is public, and its base is what we want.
_WrongUsage: Any = typer.BadParameter.__mro__[2]
INTERNAL_ERROR = 70  # EX_SOFTWARE of sysexits.h
INTERRUPTED = 130

_EPILOG = (
    "Try it on this machine: leeward lab up · leeward vault init · leeward protect web --rpo 1s --wait · "
    "leeward failover test web --wait"
)


class _Interrupted(LeewardError):
    code = "interrupted"
    exit_code = INTERRUPTED


class _Internal(LeewardError):
    code = "internal"
    exit_code = INTERNAL_ERROR


class _Commands(TyperGroup):
    """Command groups of other packages (the lab, benches) are loaded only when they are asked for, or listed."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:  # typer would make an exit code of it, like that of a scan that told of it itself
            raise _Interrupted("it was interrupted") from None

    def format_help(self, ctx: Any, formatter: Any) -> None:
        _without_bool(self, ctx)
        super().format_help(ctx, formatter)

    def list_commands(self, ctx: Any) -> list[str]:
        return [*super().list_commands(ctx), *(entry.name for entry in _plugins())]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        found = super().get_command(ctx, cmd_name)
        for entry in _plugins() if found is None else ():
            if entry.name == cmd_name:
                found = typer.main.get_group(entry.load())
                found.name = cmd_name
        return _readable(found, ctx)


def _readable(command: Any, ctx: Any) -> Any:
    """Its help, and that below it, with the lines of a paragraph as one: they are as long as the code's lines may be,
    and would be broken twice in a narrower terminal."""
    if command is not None:
        _without_bool(command, ctx)
        command.help = command.help and re.sub(r"(?<=\S)\n *(?=[^\s-])", " ", inspect.cleandoc(command.help))
        for below in getattr(command, "commands", {}).values():
            _readable(below, ctx)
    return command


def _without_bool(command: Any, ctx: Any) -> None:
    """A switch takes no value, though typer would show one."""
    for parameter in (*command.params, command.get_help_option(ctx)):
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""


def _plugins() -> Iterator[EntryPoint]:
    from importlib.metadata import entry_points

    return iter(sorted(entry_points(group="leeward.commands"), key=lambda entry: entry.name))


app = typer.Typer(
    name="leeward",
    cls=_Commands,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    epilog=_EPILOG,
    help="Disaster recovery for small offices: replicate running VMs into a vault, boot them somewhere else.",
)
app.add_typer(protection.host_app, name="host")
protection.host_app.command("scan")(discovery.scan)
protection.host_app.command("remove")(hosts.remove)
app.add_typer(protection.vm_app, name="vm")
app.add_typer(vaults.app, name="vault")
vaults.app.command("prune")(pruning.prune)
app.add_typer(failover.app, name="failover")
app.add_typer(agents.app, name="agents")
app.add_typer(agent.app, name="agent")
app.add_typer(alerts.app, name="alert")
app.add_typer(consoles.app, name="console")
app.add_typer(users.user_app, name="user")
app.add_typer(users.token_app, name="token")
app.add_typer(drills.app, name="drill")
app.add_typer(plans.app, name="plan")
for command in (
    protection.protect,
    protection.unprotect,
    protection.pause,
    protection.resume,
    protection.status,
    protection.points,
    protection.events,
    evidence.evidence,
    failover.export,
    signing.login,
    signing.logout,
    signing.whoami,
    users.audit,
):
    app.command()(command)
app.command()(portal.portal)
# Also without `failover` before them.
app.command(hidden=True)(moves.commit)
app.command(hidden=True)(moves.failback)


def _version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def options(
    config: Annotated[
        Path | None, typer.Option("--config", help="Configuration file.", envvar="LEEWARD_CONFIG")
    ] = None,
    console: Annotated[
        str | None,
        typer.Option(
            "--console",
            help="Console to ask: https://host:8443[,…], or local.",
            envvar="LEEWARD_CONSOLE",
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    current().config, current().console = config, console


@app.command()
def serve(
    embedded: Annotated[bool, typer.Option("--embedded", help="Console and agent in one process.")] = True,
    verbose: Annotated[bool, typer.Option("--verbose", help="Log every cycle.")] = False,
) -> None:
    """Run the daemon: replicates what is to be protected and answers the command line."""
    # What is imported stays: to look through it for garbage again and again takes a sixth of the start.
    gc.disable()
    from leeward.cli.daemon import serve as run_daemon

    gc.enable()
    run_daemon(current().settings(), verbose)


def run() -> None:
    """Entry of the `leeward` command."""
    sys.exit(main(sys.argv[1:]))


def main(arguments: list[str]) -> int:
    """Run one command; returns the exit code. Never shows a traceback."""
    # Log lines of the layers below are for the daemon's log; here they would spoil tables and JSON.
    log.quiet()
    as_json = "--json" in arguments
    try:
        result = app(arguments, prog_name="leeward", standalone_mode=False)
    except Declined as declined:
        if as_json:
            _report_json(declined)
        err.print(declined.message)
        return declined.exit_code
    except _Interrupted as interrupted:
        if as_json:
            _report_json(interrupted)
        return INTERRUPTED
    except LeewardError as error:
        return _report(error, as_json)
    except typer.Exit as done:
        return int(done.exit_code)
    except (typer.Abort, KeyboardInterrupt):  # at a prompt
        if as_json:
            _report_json(_Interrupted("it was interrupted"))
        err.print("Interrupted")
        return INTERRUPTED
    except _WrongUsage as error:
        if as_json:
            _report_json(_wrong_usage(error))
        error.show()
        return int(error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except PermissionError as error:
        if os.geteuid() == 0 and not error.filename:
            return _crashed(error, as_json)
        return _report(_not_ours(error), as_json)
    except Exception as error:
        return _crashed(error, as_json)
    return result if isinstance(result, int) else 0


def _report(error: LeewardError, as_json: bool) -> int:
    if as_json:
        _report_json(error)
    err.print(f"[bold red]Error:[/] {_escape(str(error))}", soft_wrap=True)
    return error.exit_code


def _report_json(error: LeewardError) -> None:
    document: dict[str, Any] = {"error": {**error.as_dict(), "exit_code": error.exit_code}}
    print_json(document)


def _wrong_usage(error: Any) -> LeewardError:
    """What is wrong with the command line itself, as a script is told of every other error. Who runs it sees it as
    typer shows it, with the command's usage."""
    command = error.ctx.command_path if error.ctx is not None else "leeward"
    return BadInput(error.format_message().rstrip("."), subject=command, hint=f"See `{command} --help`")


def _not_ours(error: PermissionError) -> LeewardError:
    """What this machine keeps of Leeward is root's alone. And root may not do everything either."""
    if os.geteuid() == 0:
        return Forbidden(
            f"root may not use this file or folder: {error.strerror}",
            subject=str(error.filename),
            hint="Is it on a network share that does not trust root (root_squash), or immutable (`lsattr`)?",
        )
    return Forbidden(
        "this file or folder may not be used by you",
        subject=str(error.filename or ""),
        hint="Run this as root, or sign in to a console with `leeward login`",
    )


def _crashed(error: Exception, as_json: bool) -> int:
    """A bug of ours: the operator gets one line, whoever mends it gets the rest."""
    import tempfile
    import traceback

    with tempfile.NamedTemporaryFile("w", prefix="leeward-crash-", suffix=".log", delete=False) as file:
        traceback.print_exception(error, file=file)
    if as_json:
        _report_json(_Internal(repr(error), hint=f"Details are in {file.name}"))
    err.print(f"[bold red]Internal error:[/] {_escape(repr(error))} (details in {file.name})", soft_wrap=True)
    return INTERNAL_ERROR


def _escape(text: str) -> str:
    return text.replace("[", "\\[")


if __name__ == "__main__":
    run()
