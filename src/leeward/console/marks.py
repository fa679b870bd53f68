"""What VMs of a consistency group are brought back to: the newest instant at which all of them agree."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import cache

from leeward.domain.consistency import Choice, choose, newer_by, point_of
from leeward.domain.durations import show
from leeward.domain.errors import Refused, StoreUnavailable
from leeward.domain.points import Mark, RecoveryPoint
from leeward.domain.procedures import Kind
from leeward.domain.runs import Run
from leeward.logs import log
from leeward.state.database import Database
from leeward.vault.facade import Vault
from leeward.wire.messages import ProtectionMessage

_NEWEST = Choice({}, "")


class Marks:
    """newest, of those who ask: True: each VM's newest point, whatever its group. False: the common instant, however
    old it is. None: the common one; somebody has to decide when it is old."""

    def __init__(self, database: Database, open_vault: Callable[[], Vault]) -> None:
        self._database = database
        self._open_vault = open_vault

    def for_one(self, vm_id: str, newest: bool | None) -> tuple[str, str]:
        """(point id, why) for an unplanned failover of one VM; ("", "") or ("", why) when it takes its newest point.

        Raises Refused when somebody has to decide.
        """
        wish = self._database.wish(vm_id)
        if wish is None or newest:
            return "", ""
        chosen = self._instant(wish)
        _decided(chosen, newest, wish.vm_name)
        return chosen.points.get(vm_id, ""), chosen.note

    def instant(self, vm_id: str) -> Choice:
        """What an unplanned failover of one VM goes back to as long as nobody says `newest`."""
        wish = self._database.wish(vm_id)
        return self._instant(wish) if wish else _NEWEST

    def for_plan(
        self, name: str, vm_ids: Collection[str], settled: Collection[str], newest: bool | None
    ) -> tuple[dict[str, str], dict[str, str]]:
        """(VM → point id, VM → why) for those of a plan's VMs that are of a group with another one of it.

        settled: VMs whose newest point holds everything, since they were shut down for it. Raises Refused like
        `for_one`.
        """
        points: dict[str, str] = {}
        notes: dict[str, str] = {}
        wanted = set(vm_ids) - set(settled)
        wishes = [wish for vm_id, wish in self._database.wishes().items() if vm_id in wanted and wish.policy.group]
        if newest or not wishes:
            return points, notes
        try:
            vault = self._open_vault()
            for wish in list(wishes):
                if (after := self._gone_before(vault, wish)) is not None:
                    points |= after.points
                    notes[wish.vm_id] = after.note
                    wishes.remove(wish)
            for (group, host), members in _groups(wishes).items():
                if len(members) < 2:
                    continue
                every_s = min(wish.policy.group_s for wish in members)
                chosen = _choice(vault, group, every_s, [wish.vm_id for wish in members])
                _decided(chosen, newest, name)
                points |= chosen.points
                notes |= dict.fromkeys((wish.vm_id for wish in members), chosen.note)
                log.info("common instant chosen", plan=name, host=host, group=group, note=chosen.note)
        except StoreUnavailable as error:
            # A warm replica may still be able to do it: then each has its newest point.
            log.warning("marks cannot be read", plan=name, error=str(error))
            return {}, {}
        return points, notes

    # --- insides ------------------------------------------------------------------------------------

    def _instant(self, wish: ProtectionMessage) -> Choice:
        if not wish.policy.group:
            return _NEWEST
        vault = self._open_vault()
        after = self._gone_before(vault, wish)
        if after is not None:
            return after
        members = self._members(wish)
        if len(members) < 2:
            return _NEWEST
        return _choice(vault, wish.policy.group, wish.policy.group_s, members)

    def _members(self, wish: ProtectionMessage) -> list[str]:
        """Those of its group that are replicated beside it: they can have agreed with it lately."""
        return [
            other.vm_id
            for other in self._database.wishes().values()
            if (other.policy.group, other.host) == (wish.policy.group, wish.host)
            and (other.vm_id == wish.vm_id or not other.paused)
        ]

    def _gone_before(self, vault: Vault, wish: ProtectionMessage) -> Choice | None:
        """Of a home that broke down the VMs are often brought up one by one: who follows goes to the instant of the
        first. Not when it has lived on: its newest point is from after the other one went."""
        own = cache(lambda: vault.log(wish.vm_id).points())  # read when one has gone, and once however many have
        for other in self._database.wishes().values():
            if other.policy.group != wish.policy.group or other.host == wish.host:
                continue
            run = self._failed_over(other.vm_id, wish.host)
            if run is None:
                continue
            points = own()
            if not points or points[-1].time_ns / 1e9 > run.created:
                continue
            mark = _mark_of(vault.log(other.vm_id).points(), run.point)
            point = point_of(points, mark) if mark else None
            if point is not None:
                behind = show(newer_by(points, point))
                note = f"the instant of {other.vm_name}, {behind} older than the newest point"
                return Choice({wish.vm_id: point.id}, note)
        return None

    def _failed_over(self, vm_id: str, home: str) -> Run | None:
        """Its newest run, when that was an unplanned failover away from this host."""
        life = self._database.lives.get(vm_id)
        runs = self._database.runs.find(vm_id=vm_id, limit=20)
        moved = next((run for run in runs if run.kind not in (Kind.TEST, Kind.CLEANUP)), None)
        if life is None or moved is None or moved.kind is not Kind.UNPLANNED or moved.home != home:
            return None
        return moved


def _choice(vault: Vault, group: str, every_s: float, members: Sequence[str]) -> Choice:
    points = {vm_id: found for vm_id in members if (found := vault.log(vm_id).points())}
    return choose(group, every_s, points)


def _decided(chosen: Choice, newest: bool | None, subject: str) -> None:
    """Raises Refused when somebody has to decide."""
    if chosen.late and newest is None:
        raise Refused(
            chosen.late,
            subject=subject,
            hint="Say --common to go back to that instant, or --newest to let each VM take its newest point",
        )


def _groups(wishes: Collection[ProtectionMessage]) -> dict[tuple[str, str], list[ProtectionMessage]]:
    found: dict[tuple[str, str], list[ProtectionMessage]] = {}
    for wish in wishes:
        if wish.policy.group and not wish.paused:
            found.setdefault((wish.policy.group, wish.host), []).append(wish)
    return found


def _mark_of(points: Sequence[RecoveryPoint], point_id: str) -> Mark | None:
    return next((point.mark for point in points if point.id == point_id), None)
