"""From what a host showed to what it is, whether Leeward can protect its VMs, and what to do next. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from leeward.network.discovery.signs import LibvirtFacts, Role, Sign, Speech

# From here on changed blocks of running VMs are tracked; see libvirt's release notes.
OLDEST_LIBVIRT = (7, 6, 0)
OLDEST_QEMU = (6, 1, 0)

_ONLY_KVM = "this version protects the VMs of libvirt hosts with QEMU/KVM only"
_INSTALL = "Install the agent on it"


class Kind(StrEnum):
    KVM = "kvm"
    LIBVIRT = "libvirt"
    HYPERV = "hyperv"
    WINDOWS = "windows"
    SSH = "ssh"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Verdict:
    """what: in words. supported: None when that shows only after sign-in; reason: why not, or why not known."""

    kind: Kind
    what: str
    supported: bool | None
    reason: str
    next_step: str


def judge(signs: Sequence[Sign]) -> Verdict:
    """signs: at least one. The strongest decides."""
    for rule in (_libvirt, _libvirt_tls, _windows, _ssh, _trap):
        verdict = rule(signs)
        if verdict is not None:
            return verdict
    return _something(signs)


# --- libvirt ------------------------------------------------------------------------------------------


def _libvirt(signs: Sequence[Sign]) -> Verdict | None:
    """A daemon that proved itself by its own words."""
    spoken = [(sign, sign.libvirt) for sign in signs if sign.libvirt is not None]
    if not spoken:
        return None
    # Behind several doors it is the same daemon: the one that told most counts, plain TCP first.
    sign, facts = max(spoken, key=lambda pair: (pair[1].qemu is not None, pair[0].door.role is Role.LIBVIRT))
    advice = _libvirt_advice(signs, sign, facts)
    if facts.qemu is None:
        ways = ", ".join(facts.auth).upper() or "a way it does not name"
        return Verdict(
            Kind.LIBVIRT,
            f"libvirt, which wants sign-in ({ways})" if "none" not in facts.auth else "libvirt",
            None,
            "whether QEMU/KVM runs under it shows only after sign-in",
            advice,
        )
    if not facts.qemu:
        return Verdict(Kind.LIBVIRT, _name("libvirt", facts), False, f"{_ONLY_KVM}: {facts.refusal}", "")
    what = _name("QEMU/KVM", facts)
    old = _too_old(facts)
    if old:
        return Verdict(Kind.KVM, what, False, old, "Update the host's system first")
    return Verdict(Kind.KVM, what, True, "", advice)


def _name(title: str, facts: LibvirtFacts) -> str:
    parts = [
        f"{program} {'.'.join(map(str, version))}"
        for program, version in (("libvirt", facts.version), ("QEMU", facts.qemu_version))
        if version is not None
    ]
    return f"{title} ({', '.join(parts)})" if parts else title


def _too_old(facts: LibvirtFacts) -> str:
    for program, version, oldest in (
        ("libvirt", facts.version, OLDEST_LIBVIRT),
        ("QEMU", facts.qemu_version, OLDEST_QEMU),
    ):
        if version is not None and version < oldest:
            return f"its {program} is too old to track changed blocks: {'.'.join(map(str, oldest[:2]))} is needed"
    return ""


def _libvirt_advice(signs: Sequence[Sign], sign: Sign, facts: LibvirtFacts) -> str:
    ssh = ", by SSH as it answers there" if _spoke(signs, Speech.SSH) else ""
    advice = f"{_INSTALL}{ssh}; it needs no libvirt port"
    if sign.door.role is Role.LIBVIRT:
        danger = (
            "libvirt answers on TCP without encryption and without sign-in: anyone on this network rules its VMs"
            if "none" in facts.auth
            else "libvirt answers on TCP without encryption"
        )
        return f"{advice}. {danger}: close port {sign.door.port}"
    if "none" in facts.auth:
        return f"{advice}. libvirt asks for no certificate and no sign-in: anyone on this network rules its VMs"
    return advice


def _libvirt_tls(signs: Sequence[Sign]) -> Verdict | None:
    sign = next((s for s in signs if s.door.role is Role.LIBVIRT_TLS and s.speech is Speech.TLS), None)
    if sign is None:
        return None
    whose = f" of {sign.certificate}" if sign.certificate else ""
    return Verdict(
        Kind.LIBVIRT,
        f"TLS server{whose} on libvirt's port, probably libvirt",
        None,
        "it speaks only to those who show a client certificate",
        f"{_INSTALL}{', by SSH as it answers there' if _spoke(signs, Speech.SSH) else ''}; it needs no libvirt port",
    )


# --- Windows ------------------------------------------------------------------------------------------


def _windows(signs: Sequence[Sign]) -> Verdict | None:
    """WinRM shows Windows, not Hyper-V; the port of Hyper-V's VM consoles makes Hyper-V probable."""
    winrm = next((sign for sign in signs if sign.speech is Speech.WINRM), None)
    ssh = next((sign for sign in signs if sign.speech is Speech.SSH and "windows" in sign.words.lower()), None)
    foreign = winrm is not None and winrm.vendor != "" and "microsoft" not in winrm.vendor.lower()
    if winrm is not None and foreign:
        return Verdict(
            Kind.OTHER,
            f"WS-Management of {winrm.vendor}, not Windows",
            None,
            "what it manages shows only after sign-in",
            "If it is a KVM host, install the agent on it",
        )
    # A console port alone proves little, and nothing when everything else is open and mute as well.
    console = any(sign.door.role is Role.VMCONNECT and sign.speech is Speech.NOTHING for sign in signs)
    if winrm is None and ssh is None:
        if not console or _is_trap(signs) or _spoke(signs, Speech.SSH):
            return None
        return _hyperv(
            "something on the port of Hyper-V's VM consoles, perhaps Hyper-V", "Turn on its remote management"
        )
    if console:
        return _hyperv("probably Hyper-V: Windows with the port of VM consoles open", "")
    what = "Windows with remote management" if winrm is not None else "Windows with an SSH server"
    return Verdict(
        Kind.WINDOWS,
        what,
        False,
        f"Hyper-V is confirmed only after sign-in, and {_ONLY_KVM}",
        "",
    )


def _hyperv(what: str, next_step: str) -> Verdict:
    return Verdict(Kind.HYPERV, what, False, f"confirmed only after sign-in, and {_ONLY_KVM}", next_step)


# --- the rest -----------------------------------------------------------------------------------------


def _ssh(signs: Sequence[Sign]) -> Verdict | None:
    sign = next((sign for sign in signs if sign.speech is Speech.SSH), None)
    if sign is None:
        return None
    return Verdict(
        Kind.SSH,
        f"machine with an SSH server ({sign.words.removeprefix('SSH-2.0-')})",
        None,
        "whether it runs VMs shows only after sign-in",
        "If it is a KVM host, install the agent on it",
    )


def _is_trap(signs: Sequence[Sign]) -> bool:
    return len(signs) >= 4 and all(sign.speech in (Speech.NOTHING, Speech.OTHER) for sign in signs)


def _trap(signs: Sequence[Sign]) -> Verdict | None:
    if not _is_trap(signs):
        return None
    return Verdict(
        Kind.OTHER,
        "accepts every connection and says nothing known: rather a firewall or a trap than a host",
        None,
        "nothing shows what it is",
        "Scan again from a machine on the same network",
    )


def _something(signs: Sequence[Sign]) -> Verdict:
    ports = ", ".join(str(sign.door.port) for sign in signs)
    return Verdict(
        Kind.OTHER,
        f"something that is no known hypervisor (open: {ports})",
        None,
        "what came out of its ports was not what belongs there",
        "If it is a KVM host, install the agent on it",
    )


def _spoke(signs: Sequence[Sign], speech: Speech) -> bool:
    return any(sign.speech is speech for sign in signs)
