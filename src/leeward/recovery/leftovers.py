"""What becomes of new disks that an earlier failback gave a VM at home, when another one comes. Pure."""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum

from leeward.domain.errors import Refused


class Leftover(StrEnum):
    """FITS: they hold what is wanted; STALE: they are taken back and made anew."""

    FITS = "fits"
    STALE = "stale"


def judge(vm_name: str, held: str, wanted: str, *, written: bool, afresh: bool) -> Leftover:
    """held, wanted: ids of points. written: the guest has written to the disks since. afresh: another run made them.

    What the guest has written at home is in no vault, so it is kept; raises Refused where that is not what is wanted.
    """
    if held != wanted and written:
        raise Refused(
            f"it has run at home already from its new disks, made of point {held}; point {wanted} is wanted now",
            subject=vm_name,
            hint=f"Cancel; then go on with these disks: `leeward failover failback {vm_name} --unplanned "
            f"--point {held}`. Or copy what is on them, and remove them by hand",
        )
    return Leftover.FITS if held == wanted and (written or not afresh) else Leftover.STALE


def of_another(made_for: str, runs: Collection[str]) -> bool:
    """Whether new disks are none that these runs may take back: a later run's, for an order that comes late.
    made_for: "" of disks that were made before that was noted. runs: none by a console that does not tell them."""
    return bool(made_for and runs) and made_for not in runs


def must_hold(vm_name: str, held: str, wanted: str) -> None:
    """Raise Refused unless the new disks hold the point of this failback. wanted: "" of a console that does not tell
    it."""
    if wanted not in ("", held):
        raise Refused(
            f"its new disks hold point {held}, not point {wanted} as this failback wants",
            subject=vm_name,
            hint="Cancel the failback, then ask for it again",
        )


def must_be_unwritten(vm_name: str, held: str, *, written: bool) -> None:
    """Raise Refused when taking the new disks back would lose what the guest has written."""
    if written:
        raise Refused(
            "it has been started from its new disks",
            subject=vm_name,
            hint=f"Go on with them: `leeward failover failback {vm_name} --unplanned --point {held}`",
        )
