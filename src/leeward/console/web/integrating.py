"""The integration of recovery as a way of four steps: which are done, which comes next. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from leeward.console.picks import PickState, Progress, Standing
from leeward.console.web.phrases import N_, Phrase, phrase
from leeward.console.web.services import missing_for_recovery
from leeward.console.web.watch import Moment
from leeward.ports.recovery_provider import RecoveryProvider

HOME = "/services/recovery"
PLACES = {
    "here": (N_("This machine"), N_("Its own libvirt runs the recovered VMs. Nothing has to be installed.")),
    "agent": (N_("Another KVM host"), N_("At the second site. An agent is put onto it in the third step.")),
    "azure": (N_("Microsoft Azure"), N_("Recovered VMs would run in the cloud, without a second site.")),
}


@dataclass(frozen=True, slots=True)
class Step:
    """note: what it has come to so far."""

    key: str
    title: str
    href: str
    done: bool
    note: Phrase | None


def steps(progress: Progress, moment: Moment, standings: Sequence[Standing]) -> list[Step]:
    recovery = [host.name for host in moment.hosts if host.site == "recovery"]
    sources = [host.name for host in moment.hosts if host.site == "source"]
    ready = sum(one.state is PickState.READY for one in standings)
    scanned = progress.scan is not None or bool(progress.picks) or bool(sources)
    enrolled = ready == len(standings) if standings else bool(sources)
    found = progress.scan.found if progress.scan else None
    return [
        Step(
            "place",
            N_("Recovery place"),
            f"{HOME}/place",
            bool(recovery) or progress.place == "agent",
            phrase(N_("Recovery hosts: {names}"), names=", ".join(recovery)) if recovery else None,
        ),
        Step(
            "scan",
            N_("Find hosts"),
            f"{HOME}/scan",
            scanned,
            phrase(N_("Machines found: {count}"), count=found) if found is not None else None,
        ),
        Step(
            "hosts",
            N_("Enrol hosts"),
            f"{HOME}/hosts",
            enrolled and scanned,
            phrase(N_("Enrolled: {ready} of {all}"), ready=ready, all=len(standings)) if standings else None,
        ),
        Step("done", N_("Finish"), f"{HOME}/done", not missing_for_recovery(moment), None),
    ]


def following(found: Sequence[Step]) -> Step:
    """Where somebody goes on who comes back: the first step that is not done."""
    return next((step for step in found if not step.done), found[-1])


@dataclass(frozen=True, slots=True)
class PlaceChoice:
    """why: it cannot be chosen, in English; "" when it can."""

    key: str
    title: str
    about: str
    why: str


def place_choices(providers: Sequence[RecoveryProvider]) -> list[PlaceChoice]:
    return [PlaceChoice(one.key, *PLACES[one.key], one.why_not()) for one in providers]
