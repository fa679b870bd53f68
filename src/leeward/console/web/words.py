"""Words for the values that pages show as badges and in tables."""

from __future__ import annotations

from leeward.console.web.acts import ACTS
from leeward.console.web.phrases import N_, Phrase, Quote, phrase

ROLES = {"viewer": N_("Viewer"), "operator": N_("Operator"), "admin": N_("Administrator")}
STEPS = {
    "waiting": N_("waiting"),
    "running": N_("running"),
    "done": N_("done"),
    "failed": N_("failed"),
    "skipped": N_("skipped"),
}
KINDS = {
    "test": N_("Test failover"),
    "cleanup": N_("Clean-up of a test"),
    "planned": N_("Planned failover"),
    "unplanned": N_("Unplanned failover"),
    "commit": N_("Commit"),
    "failback": N_("Failback"),
    "unplanned-failback": N_("Unplanned failback"),
    "finish": N_("Commit of a failback"),
}
# state of a picked host → (word, level)
PICKS = {
    "new": (N_("No agent yet"), "off"),
    "waiting": (N_("Waiting for its agent…"), "busy"),
    "expired": (N_("The token has expired"), "warn"),
    "enrolled": (N_("Enrolled, has not told of its VMs yet"), "busy"),
    "unheard": (N_("Enrolled, does not answer"), "bad"),
    "ready": (N_("Enrolled – VMs: {vms}"), "good"),
    "revoked": (N_("Its agent was revoked"), "off"),
}
# state of a run → (word, level)
RUNS = {
    "running": (N_("Under way"), "busy"),
    "stalled": (N_("Stalled"), "bad"),
    "undoing": (N_("Being taken back"), "busy"),
    "done": (N_("Done"), "good"),
    "undone": (N_("Taken back"), "off"),
    "waiting": (N_("Waits for approval"), "warn"),
    "paused": (N_("Paused"), "warn"),
    "aborting": (N_("Being aborted"), "busy"),
    "cleaning": (N_("Being cleaned up"), "busy"),
    "aborted": (N_("Aborted"), "off"),
    "cleaned": (N_("Cleaned up"), "off"),
}
POWER = {"running": N_("Running"), "paused": N_("Paused"), "off": N_("Off")}
CONSISTENCY = {"crash": N_("Crash-consistent"), "app": N_("App-consistent")}
SITES = {"source": N_("Source site"), "recovery": N_("Recovery site")}
# what was spoken behind an open port; names, the same in every language
SPEECH = {"ssh": "SSH", "libvirt": "libvirt", "tls": "TLS", "http": "HTTP", "winrm": "WinRM"}
# outcome in the audit log → (word, level)
OUTCOMES = {
    "begun": (N_("Begun"), "busy"),
    "done": (N_("Done"), "good"),
    "refused": (N_("Refused"), "warn"),
    "failed": (N_("Failed"), "bad"),
}
# channels by which alerts are told
CHANNELS = {"mail": N_("mail"), "webhook": N_("webhook")}
SECURITY = {"starttls": N_("STARTTLS (usual)"), "tls": N_("TLS from the start"), "plain": N_("None: in clear")}
THEMES = {"auto": N_("As the device"), "light": N_("Light"), "dark": N_("Dark")}
VAULT = {
    "open": (N_("Unlocked"), "good"),
    "none": (N_("Not created yet"), "warn"),
    "locked": (N_("Locked"), "bad"),
    "away": (N_("Cannot be reached"), "bad"),
    "unknown": (N_("Not known yet"), "off"),
}
# state of a warm replica
REPLICAS = {
    "copying": N_("being copied"),
    "warm": N_("warm"),
    "behind": N_("behind"),
    "taken": N_("taken by a failover"),
    "error": N_("error"),
    "unknown": N_("not known yet"),
}
# outcome of a test → (word, level)
TESTS = {
    "under-way": (N_("Under way"), "busy"),
    "passed": (N_("Passed"), "good"),
    "unproven": (N_("Runs, nothing could be asked"), "warn"),
    "failed": (N_("Failed"), "bad"),
    "undone": (N_("Taken back"), "off"),
}
# what was seen of a copy's boot
EVIDENCE = {
    "answers": N_("its agent answers"),
    "silent": N_("its agent is silent"),
    "none": N_("it has no agent that could answer"),
}

# what the history says
EVENTS = {
    "protect": N_("replication enabled, or its policy changed"),
    "unprotect": N_("replication disabled"),
    "pause": N_("replication paused"),
    "resume": N_("replication resumed"),
    "adopted from the vault": N_("adopted from the vault"),
    "vault created": N_("vault created"),
    "vault unlocked": N_("vault unlocked"),
    "vault place chosen": N_("place of the vault chosen"),
    "vault credentials renewed": N_("credentials of the vault renewed"),
    "recovery key confirmed": N_("recovery key confirmed"),
    "drill scheduled": N_("drill scheduled"),
    "drill no longer scheduled": N_("drill no longer scheduled"),
    "drill done": N_("drill done"),
    "drill failed": N_("drill failed"),
    "host added": N_("host added"),
    "host removed": N_("host removed"),
    "network scan begun": N_("network scan begun"),
    "agent token made": N_("token for an agent made"),
    "agent installation begun": N_("installation of an agent begun"),
    "agent enrolled": N_("agent enrolled"),
    "agent revoked": N_("agent revoked"),
    "plan created": N_("plan created"),
    "plan changed": N_("plan changed"),
    "plan deleted": N_("plan deleted"),
    "plan adopted from the vault": N_("plan adopted from the vault"),
    "renamed": N_("renamed"),
    "left behind": N_("something was left behind at a host"),
}
_ENDS = {
    "begun": N_("{kind} begun"),
    "done": N_("{kind} done"),
    "undone": N_("{kind} taken back"),
    "stalled": N_("{kind} has stalled"),
}
# of a plan's run: its ends, and what was asked of it
_PLAN_ENDS = {
    "begun": N_("the plan's run has begun ({kind})"),
    "waits for an approval": N_("the plan's run waits for an approval ({kind})"),
    "stalled": N_("the plan's run has stalled ({kind})"),
    "paused": N_("the plan's run is paused ({kind})"),
    "aborted": N_("the plan's run was aborted ({kind})"),
    "done": N_("the plan's run has ended ({kind})"),
    "cleaned": N_("the plan's run was cleaned up ({kind})"),
    "approve": N_("the plan's next group was approved of ({kind})"),
    "pause": N_("the plan's run was asked to pause ({kind})"),
    "resume": N_("the plan's run was asked to go on ({kind})"),
    "abort": N_("the plan's run was asked to end ({kind})"),
    "retry": N_("the plan's run was asked to try again ({kind})"),
    "cleanup": N_("the plan's test was asked to be cleaned up ({kind})"),
}


def pick(state: str, vms: int) -> tuple[Phrase, str]:
    """vms: of its hosts."""
    text, level = PICKS[state]
    return phrase(text, vms=vms), level


def event(what: str) -> Phrase | Quote | str:
    """What the history says of a run, or of something else."""
    kind, _, end = what.partition(" ")
    ends = _ENDS
    if kind == "plan":
        (kind, _, end), ends = end.partition(" "), _PLAN_ENDS
    if kind in KINDS and end in ends:
        return Phrase(ends[end], (("kind", Phrase(KINDS[kind])),))
    return EVENTS.get(what) or Quote(what)


def act(what: str) -> str:
    """What the audit log says that somebody did."""
    return ACTS.get(what, what)
