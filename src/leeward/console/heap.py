"""How Python's own machinery works in a console with very many VMs: the collector of cyclic garbage, and whose turn
it is."""

from __future__ import annotations

import gc
import sys

# Net new objects before the youngest are looked through. A picture of a thousand VMs is some ten thousand objects
# that live for half a second and are in no cycle. With Python's 700 they count as long-lived ones, so that every few
# seconds *all* objects are looked through: 0.4 s in which nobody gets an answer.
_YOUNG = 50_000
# A thread that has waited for something (the database, a socket) has to wait for its turn again, behind one that is
# busy with a picture of everything: with Python's 5 ms, and some ten of such turns a page, that was most of what a
# page took.
_TURN_S = 0.0005


def calm() -> None:
    """Once, when everything is imported: what is there by then is never looked through again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, 10, 10)
    sys.setswitchinterval(_TURN_S)
