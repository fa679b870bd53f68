"""The process's collector of cyclic garbage, as a console with very many VMs needs it."""

from __future__ import annotations

import gc

# Net new objects before the youngest are looked through. A picture of a thousand VMs is some ten thousand objects
# that live for half a second and are in no cycle. With Python's 700 they count as long-lived ones, so that every few
# seconds *all* objects are looked through: 0.4 s in which nobody gets an answer.
_YOUNG = 50_000


def calm() -> None:
    """Once, when everything is imported: what is there by then is never looked through again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, 10, 10)
