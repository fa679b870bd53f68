"""What Prometheus is told: pure, from one picture of everything to families of samples.

Each family is declared once, in FAMILIES; docs/metrics.md and the dashboard for Grafana are tested against that.
Nothing is kept between two scrapes, and nothing global is touched.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from leeward.console.showing import rto_of
from leeward.console.views import StatusView
from leeward.console.web.vault_door import VaultState
from leeward.console.web.watch import Moment
from leeward.domain.alerts import SEVERITIES, AlertKind
from leeward.domain.protection import ProtectionState
from leeward.state.clock import seconds_of

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Family:
    """kind: gauge or counter. labels: names, in the order in which samples give their values."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()


_VM = ("vm_id", "vm", "host")
FAMILIES = {
    family.name: family
    for family in (
        Family("leeward_build_info", "gauge", "Always 1; the version of the console.", ("version", "console")),
        Family(
            "leeward_picture_timestamp_seconds",
            "gauge",
            "When the picture was taken that the other metrics tell of; up to 10 s ago while nobody looks.",
        ),
        Family(
            "leeward_vm_state", "gauge", "1 for the state in which the VM is; the others are absent.", (*_VM, "state")
        ),
        Family("leeward_vm_rpo_target_seconds", "gauge", "How old the newest recoverable instant may become.", _VM),
        Family("leeward_vm_rpo_actual_seconds", "gauge", "How old the newest recoverable instant is.", _VM),
        Family("leeward_vm_last_point_timestamp_seconds", "gauge", "Instant of the newest recovery point.", _VM),
        Family("leeward_vm_failover_possible", "gauge", "1 when the VM could be failed over.", _VM),
        Family("leeward_vm_cycles_total", "counter", "Cycles since the VM's agent was started.", _VM),
        Family(
            "leeward_vm_replicated_bytes_total",
            "counter",
            "Bytes that cycles have stored since the VM's agent was started, compressed.",
            _VM,
        ),
        Family("leeward_vm_spool_bytes", "gauge", "Bytes that wait on the host because the vault is away.", _VM),
        Family("leeward_vm_last_test_timestamp_seconds", "gauge", "When the last good test failover ended.", _VM),
        Family(
            "leeward_vm_last_rto_seconds",
            "gauge",
            "From the request until the guest had come up, of the newest run that brought it up.",
            (*_VM, "kind"),
        ),
        Family("leeward_host_up", "gauge", "1 when the host can be reached and its agent answers.", ("host", "site")),
        Family("leeward_agents_connected", "gauge", "Enrolled agents that answer."),
        Family("leeward_agents_enrolled", "gauge", "Agents on other machines that are enrolled."),
        Family(
            "leeward_vault_reachable", "gauge", "1 when the vault can be reached; absent while that is not known."
        ),
        Family("leeward_vault_filesystem_size_bytes", "gauge", "Of a vault on the console's machine."),
        Family("leeward_vault_filesystem_free_bytes", "gauge", "Of a vault on the console's machine."),
        Family("leeward_runs_total", "counter", "Runs of VMs that have ended.", ("kind", "outcome")),
        Family("leeward_runs_open", "gauge", "Runs of VMs that have not ended.", ("kind", "state")),
        Family("leeward_alerts_open", "gauge", "Alerts that are open, acknowledged or not.", ("kind", "severity")),
        Family(
            "leeward_alert_channel_failing",
            "gauge",
            "1 when messages do not get through a channel that is on.",
            ("channel",),
        ),
    )
}
_ENDS = ("done", "undone")


@dataclass(frozen=True, slots=True)
class Seen:
    """What the metrics are made of besides the picture. agents: (connected, enrolled). runs: (kind, state) → how
    many. alerts: kind → how many are open. failing: channel → whether messages do not get through."""

    version: str
    console: str
    agents: tuple[int, int]
    runs: Mapping[tuple[str, str], int]
    alerts: Mapping[AlertKind, int]
    failing: Mapping[str, bool]


# (label values, value)
Sample = tuple[tuple[str, ...], float]


def samples(moment: Moment, seen: Seen) -> dict[str, list[Sample]]:
    """By the name of their family, each family once; empty ones are left out."""
    found: dict[str, list[Sample]] = {}
    for name, labels, value in (*_console(moment, seen), *_hosts(moment), *_vault(moment), *_vms(moment)):
        found.setdefault(name, []).append((labels, float(value)))
    return {name: found[name] for name in FAMILIES if name in found}


_Told = Iterator[tuple[str, tuple[str, ...], float]]


def _console(moment: Moment, seen: Seen) -> _Told:
    yield "leeward_build_info", (seen.version, seen.console), 1
    yield "leeward_picture_timestamp_seconds", (), moment.taken
    yield "leeward_agents_connected", (), seen.agents[0]
    yield "leeward_agents_enrolled", (), seen.agents[1]
    for (kind, state), count in sorted(seen.runs.items()):
        yield "leeward_runs_total" if state in _ENDS else "leeward_runs_open", (kind, state), count
    for kind in AlertKind:
        yield "leeward_alerts_open", (kind.value, SEVERITIES[kind].value), seen.alerts.get(kind, 0)
    for channel, failing in seen.failing.items():
        yield "leeward_alert_channel_failing", (channel,), failing


def _hosts(moment: Moment) -> _Told:
    for host in moment.hosts:
        yield "leeward_host_up", (host.name, host.site), host.reachable


def _vault(moment: Moment) -> _Told:
    if moment.vault not in (VaultState.UNKNOWN, VaultState.NONE):
        yield "leeward_vault_reachable", (), moment.vault is not VaultState.AWAY
    if moment.room is not None:
        yield "leeward_vault_filesystem_size_bytes", (), moment.room.size
        yield "leeward_vault_filesystem_free_bytes", (), moment.room.free


def _vms(moment: Moment) -> _Told:
    for one in moment.statuses:
        if one.policy is not None:
            yield from _vm(moment, one, (one.vm_id, one.vm, one.host))


def _vm(moment: Moment, one: StatusView, labels: tuple[str, ...]) -> _Told:
    yield "leeward_vm_state", (*labels, ProtectionState(one.state).value), 1
    if one.rpo_target_s is not None:
        yield "leeward_vm_rpo_target_seconds", labels, one.rpo_target_s
    if one.rpo_actual_s is not None:
        yield "leeward_vm_rpo_actual_seconds", labels, one.rpo_actual_s
    if one.last_point is not None:
        yield "leeward_vm_last_point_timestamp_seconds", labels, seconds_of(one.last_point.time)
    yield "leeward_vm_failover_possible", labels, one.failover_possible
    yield "leeward_vm_cycles_total", labels, one.cycles
    yield "leeward_vm_replicated_bytes_total", labels, one.sent_bytes
    yield "leeward_vm_spool_bytes", labels, one.spool_bytes
    if one.vm_id in moment.tested:
        yield "leeward_vm_last_test_timestamp_seconds", labels, moment.tested[one.vm_id]
    run = moment.rtos.get(one.vm_id)
    took = rto_of(run) if run is not None else None
    if run is not None and took is not None:
        yield "leeward_vm_last_rto_seconds", (*labels, run.kind.value), took


def exposition(found: Mapping[str, Sequence[Sample]]) -> str:
    """In Prometheus' text format. Written here, since its own library takes four times as long: at 10,000 VMs half a
    second in which agents and pages would wait."""
    lines: list[str] = []
    for name, rows in found.items():
        family = FAMILIES[name]
        lines.append(f"# HELP {name} {family.help}\n# TYPE {name} {family.kind}\n")
        for values, value in rows:
            lines.append(f"{name}{_labels(family.labels, values)} {value!r}\n")
    return "".join(lines)


def _labels(names: Sequence[str], values: Sequence[str]) -> str:
    if not names:
        return ""
    return "{" + ",".join([f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True)]) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
