"""Domain values as messages."""

from __future__ import annotations

from datetime import UTC, datetime

from leeward.domain.points import Mark, RecoveryPoint
from leeward.domain.progress import Progress
from leeward.domain.vm import VmFacts
from leeward.wire.messages import DiskMessage, MarkMessage, PointMessage, ProgressMessage, VmMessage


def utc(time_ns: int) -> str:
    """UTC, ISO 8601 with microseconds and a final Z."""
    return datetime.fromtimestamp(time_ns / 1e9, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def utc_of(seconds: float) -> str:
    """The same for UTC seconds."""
    return utc(int(seconds * 1e9))


def when(seconds: float | None) -> str | None:
    """The same where it may not have come to that."""
    return None if seconds is None else utc_of(seconds)


def point_message(point: RecoveryPoint) -> PointMessage:
    return PointMessage(
        id=point.id,
        time=utc(point.time_ns),
        consistency=point.consistency,
        disks=tuple(DiskMessage(name=disk.name, size=disk.size) for disk in point.disks),
        bytes=point.stored,
        epoch=point.epoch,
        mark=mark_message(point.mark) if point.mark else None,
    )


def mark_message(mark: Mark) -> MarkMessage:
    return MarkMessage(id=mark.id, group=mark.group, time=utc(mark.time_ns), members=mark.members)


def progress_message(progress: Progress) -> ProgressMessage:
    return ProgressMessage(
        phase=progress.phase,
        done=progress.done,
        total=progress.total,
        sent=progress.sent,
        rate=round(progress.rate, 1),
        eta_s=None if progress.eta_s is None else round(progress.eta_s, 1),
        fraction=round(progress.fraction, 4),
    )


def vm_message(facts: VmFacts) -> VmMessage:
    return VmMessage(
        id=facts.id,
        name=facts.name,
        host=facts.host,
        power=facts.power,
        disks=tuple(DiskMessage(name=disk.name, size=disk.size) for disk in facts.disks),
        memory_mib=facts.memory_mib,
        vcpus=facts.vcpus,
        unsupported=facts.unsupported,
        lacks=facts.lacks,
    )
