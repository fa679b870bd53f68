"""Which addresses of our own networks are nobody's: the kernel asked for them by ARP and got no answer.

A firewall hides ports, but a machine cannot hide from ARP and still talk. So one knock in vain is enough for an
address on the same network, where otherwise each door would cost a timeout of its own. (IPv4 only; the kernel lists
IPv6 neighbours nowhere as a file.)
"""

from __future__ import annotations

from pathlib import Path

from leeward.network.discovery.ranges import Address

# The thread's own view: it may live in another network namespace than the process's first thread.
_TABLE = Path("/proc/thread-self/net/arp")
_COMPLETE = 0x2  # ATF_COM in <linux/if_arp.h>


def unanswered(table: str) -> frozenset[str]:
    """Addresses that the kernel asked for, without an answer on any network. table: as in /proc/net/arp. Pure."""
    rows = [line.split() for line in table.splitlines()[1:]]
    answered = {row[0] for row in rows if int(row[2], 16) & _COMPLETE}
    return frozenset(row[0] for row in rows) - answered


def is_nobodys(address: Address) -> bool:
    if address.version != 4:
        return False
    try:
        return str(address) in unanswered(_TABLE.read_text())
    except (OSError, ValueError, IndexError):  # no such table here, or of another form: then nothing is known
        return False
