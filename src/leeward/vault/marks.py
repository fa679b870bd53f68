"""Marks of consistency groups as JSON. Objects of before there were any have none; older readers pass over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from leeward.domain.points import Mark, RecoveryPoint


def mark_info(mark: Mark) -> dict[str, Any]:
    return {"id": mark.id, "group": mark.group, "time_ns": mark.time_ns, "members": list(mark.members)}


def mark_of(info: dict[str, Any] | None) -> Mark | None:
    if info is None:
        return None
    members = tuple(str(member) for member in info["members"])
    return Mark(str(info["id"]), str(info["group"]), int(info["time_ns"]), members)


def marks_info(points: Sequence[RecoveryPoint]) -> dict[str, dict[str, Any]]:
    """By sequence number, of those points that have one."""
    return {point.id: mark_info(point.mark) for point in points if point.mark is not None}
