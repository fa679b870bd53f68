"""`leeward bench`: ratios measured side by side in one run."""

from __future__ import annotations

import json
import statistics
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from leeward.lab.bench.measure import Series
    from leeward.lab.bench.stage import Stage

app = typer.Typer(no_args_is_help=True, help="Benchmarks against peers, on the same data in one run. Needs root.")
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

Rounds = Annotated[int, typer.Option(min=1, help="How often each contender runs; medians are shown.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def _stage(*, data: bool, disks: int = 2) -> AbstractContextManager[Stage]:
    from leeward.lab.bench.stage import stage

    return stage(data=data, disks=disks)


def _note(text: str) -> None:
    err.print(f"[bright_black]{text}[/]")


@app.command()
def replicate(rounds: Rounds = 3, as_json: Json = False) -> None:
    """First copy of a 4 GiB disk with 1.1 GiB of real files, and restore of it, against peers."""
    from leeward.lab.bench.contests import first_copy, restore, same_content

    with _stage(data=True) as where:
        copies = first_copy(where, rounds, _note)
        exact = same_content(where)
        restores = restore(where, rounds, _note)
    _show({"First copy": copies, "Restore": restores}, as_json)
    if not as_json:
        out.print(f"Exported disk equals the original: {'yes' if exact else 'NO'}")
    if not exact:
        raise typer.Exit(1)


@app.command()
def restore(rounds: Rounds = 3, as_json: Json = False) -> None:
    """As `replicate`, which a restore needs first."""
    replicate(rounds, as_json)


@app.command()
def cycle(rounds: Rounds = 15, as_json: Json = False) -> None:
    """A whole cycle against the bare libvirt calls, idle and with 10 MB dirty."""
    from leeward.lab.bench.cycles import cycles

    with _stage(data=False) as where:
        figures = cycles(where, rounds)
    if as_json:
        print(json.dumps([{"dirty": f.dirty, "bare_ms": f.bare_ms, "ours_ms": f.ours_ms} for f in figures]))
        return
    out.print("| Dirty | Bare begin, end, delete | Leeward's whole cycle | Ratio |\n|---|---|---|---|")
    for f in figures:
        out.print(f"| {f.dirty} | {f.bare_ms:.0f} ms | {f.ours_ms:.0f} ms | {f.ours_ms / f.bare_ms:.2f} |")


@app.command()
def boot(rounds: Rounds = 3, as_json: Json = False) -> None:
    """Power-on to the first HTTP answer: local disk, vault, vault 5 ms away."""
    from leeward.lab.bench.boots import boots

    with _stage(data=False) as where:
        found = boots(where, rounds)
    if as_json:
        print(json.dumps({b.name: b.seconds for b in found}))
        return
    base = found[0].median
    out.print("| Disk | Start to HTTP | Ratio | All |\n|---|---|---|---|")
    for b in found:
        every = ", ".join(f"{seconds:.1f}" for seconds in b.seconds)
        out.print(f"| {b.name} | {b.median:.2f} s | {b.median / base:.2f} | {every} |")


@app.command()
def rpo(
    minutes: Annotated[float, typer.Option(min=0.2, help="Protected minutes in all.")] = 10,
    phases: Annotated[int, typer.Option(min=1, help="Into how many phases they are cut.")] = 4,
    disks: Annotated[int, typer.Option(min=1, max=2, help="Of the guest, which writes to each.")] = 2,
    as_json: Json = False,
) -> None:
    """One-second points over minutes: the actual RPO, and the guest's fsync latency with and without."""
    from leeward.lab.bench.rpo import hold_rpo

    with _stage(data=False, disks=disks) as where:
        f = hold_rpo(where, minutes, phases, 1.0, _note)
    if as_json:
        shares = {f"rpo_p{share}_s": f.age(share / 100) for share in (50, 99, 100)}
        print(json.dumps({**shares, "fsync_p50_ratio": f.ratio("p50"), "fsync_p99_ratio": f.ratio("p99")}))
        return
    out.print(f"{f.points} points in {f.seconds:.0f} s, target {f.target_s:g} s")
    out.print("| | p50 | p99 | Worst |\n|---|---|---|---|")
    out.print(f"| actual RPO | {f.age(0.5):.2f} s | {f.age(0.99):.2f} s | {f.age(1):.2f} s |")
    for name, felt in (("unprotected", f.plain), ("bare libvirt cycles", f.bare), ("protected", f.protected)):
        medians = [statistics.median(values) / 1000 for values in (felt.p50, felt.p99)]
        out.print(f"| guest fsync, {name} | {medians[0]:.2f} ms | {medians[1]:.2f} ms | {felt.worst / 1000:.1f} ms |")
    out.print(f"| protected / bare cycles | {f.ratio('p50', 'bare'):.2f} | {f.ratio('p99', 'bare'):.2f} | |")
    out.print(f"| protected / unprotected | {f.ratio('p50'):.2f} | {f.ratio('p99'):.2f} | |")


@app.command()
def log(
    entries: Annotated[int, typer.Option(min=1000, help="Length of the log.")] = 100_000,
    rounds: Rounds = 5,
    as_json: Json = False,
) -> None:
    """Opening points of a very long log in a vault on the local disk, with a cold page cache."""
    from leeward.lab.bench.long_log import long_log

    f = long_log(entries, rounds, _note)
    if as_json:
        print(json.dumps({"entries": f.entries, "seconds": f.seconds}))
        return
    out.print(f"{f.entries:,} entries\n| What | Seconds | Slowest |\n|---|---|---|")
    for what, seconds in f.seconds.items():
        out.print(f"| {what} | {f.median(what):.2f} | {max(seconds):.2f} |")


@app.command()
def failover(
    rounds: Rounds = 3,
    gib: Annotated[int, typer.Option(min=0, help="Size of the sparse boot disk; 0: as it is.")] = 100,
    as_json: Json = False,
) -> None:
    """Unplanned and planned failover and failback by the commands, from the command to the guest's answer."""
    from leeward.lab.bench.failovers import failovers

    with _stage(data=False) as where:
        f = failovers(where, gib, rounds, _note)
    if as_json:
        print(json.dumps(asdict(f)))
        return
    boot = statistics.median(f.boot)
    stop, stop_away = statistics.median(f.planned_shutdown), statistics.median(f.failback_shutdown)
    out.print("| What | Seconds | Of the plain boot |\n|---|---|---|")
    out.print(f"| plain boot from the local disk | {boot:.1f} | |")
    for name, values, off in (
        ("unplanned failover, command to HTTP", f.unplanned, 0.0),
        ("planned failover, command to HTTP", f.planned, 0.0),
        ("planned failover without its shutdown", f.planned, stop),
        ("failback, last answer there to first at home", f.failback_down, 0.0),
        ("failback without its shutdown", f.failback_down, stop_away),
    ):
        seconds = statistics.median(values) - off
        out.print(f"| {name} | {seconds:.1f} | {seconds / boot:.2f} × |", soft_wrap=True)
    steps = ", ".join(f"{name} {statistics.median(values):.1f}" for name, values in f.unplanned_steps.items())
    out.print(f"\nSteps of the unplanned failover, seconds: {steps}", soft_wrap=True)


@app.command()
def agents(
    count: Annotated[int, typer.Option(min=10, help="Simulated agents.")] = 1000,
    seconds: Annotated[float, typer.Option(min=1, max=300, help="Length of each phase.")] = 40,
    as_json: Json = False,
) -> None:
    """What many agents cost their console: real TLS on loopback. Needs no root."""
    from leeward.lab.bench.agents import measure, percentile

    f = measure(count, seconds, _note)
    if as_json:
        phases = [{"name": p.name, "cores": p.cores, "asked": p.asked, "memory": p.memory} for p in f.phases]
        print(json.dumps({"agents": count, "connect_ms": f.connect_ms, "phases": phases, "delays_s": f.delays_s}))
        return
    out.print(f"{f.agents:,} agents, two lines each; {f.connect_ms:.2f} ms of CPU for a new line\n")
    out.print("| Agents | Requests | Console's CPU | Memory |\n|---|---|---|---|")
    for p in f.phases:
        out.print(f"| {p.name} | {p.asked:,.0f}/s | {p.cores:.3f} cores | {p.memory >> 20} MiB |")
    p50, p99 = (percentile(f.delays_s, share) * 1000 for share in (0.5, 0.99))
    out.print(f"\nA job reaches its idle agent in {p50:.0f} ms (p50), {p99:.0f} ms (p99).")


@app.command()
def console(
    agents: Annotated[int, typer.Option(min=1, help="Simulated agents.")] = 1000,
    vms: Annotated[int, typer.Option(min=5, help="Protected VMs of each.")] = 10,
    seconds: Annotated[float, typer.Option(min=5, max=600, help="For how long is asked.")] = 60,
    as_json: Json = False,
) -> None:
    """How fast the console's API and pages answer with very many VMs, whose agents tell of new points meanwhile."""
    from leeward.lab.bench.agents import percentile
    from leeward.lab.bench.console import measure

    f = measure(agents, vms, seconds, _note)
    if as_json:
        print(json.dumps(asdict(f)))
        return
    out.print(f"{f.agents:,} agents, {f.vms:,} VMs; {f.memory >> 20} MiB")
    out.print(f"{f.cores:.2f} cores for the API, {f.page_cores:.2f} for pages\n")
    out.print("| Question | Asked | p50 | p95 |\n|---|---|---|---|")
    for question, answers in f.answers.items():
        p50, p95 = (percentile(answers, share) * 1000 for share in (0.5, 0.95))
        out.print(f"| {question} | {len(answers)} × | {p50:.0f} ms | {p95:.0f} ms |")
    p50, p95 = (percentile(f.updates, share) * 1000 for share in (0.5, 0.95))
    out.print(f"\nA change reaches an open page after {p50:.0f} ms (p50), {p95:.0f} ms (p95).")


def _show(groups: dict[str, list[Series]], as_json: bool) -> None:
    if as_json:
        document = {
            group: [
                {
                    "name": s.name,
                    "seconds": [r.seconds for r in s.runs],
                    "peak": s.peak if s.runs else 0,
                    "note": s.note,
                }
                for s in series
            ]
            for group, series in groups.items()
        }
        print(json.dumps(document))
        return
    for group, series in groups.items():
        ours = [s for s in series if s.name.startswith("leeward") and s.runs]
        heads = ["Contender", "Wall", "CPU", "Peak memory", *(f"{s.name}: faster by" for s in ours)]
        out.print(f"\n**{group}**\n\n| {' | '.join(heads)} |\n{'|---' * len(heads)}|", soft_wrap=True)
        for s in series:
            if not s.runs:
                out.print(f"| {s.name} | did not run: {s.note} |", soft_wrap=True)
                continue
            ratios = ["" if s in ours else f"{s.seconds / one.seconds:.2f} ×" for one in ours]
            cells = [s.name, f"{s.seconds:.1f} s", f"{s.cpu:.1f} s", f"{s.peak >> 20} MiB", *ratios]
            out.print(f"| {' | '.join(cells)} |", soft_wrap=True)
