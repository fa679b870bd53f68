"""The wide-area link: a switch in a namespace of its own, with a cable to each place; cut in any direction.

Cut packets vanish, as they do on a broken line: nobody is told. The switch never speaks IP itself, and it filters IP
alone, so that neighbours go on knowing each other and no kernel says "no route to host".
"""

from __future__ import annotations

from collections.abc import Iterable

from leeward.lab import netns, tools
from leeward.lab.places import SITES, WAN, Places

_SWITCH = "switch"
# All in one transaction: there is no instant without the cuts that stay.
_RULES = """\
table bridge cuts
delete table bridge cuts
table bridge cuts {{
  chain forward {{
    type filter hook forward priority 0;
{drops}
  }}
}}
"""


def build(places: Places) -> None:
    """The switch, and both sites on it, with routes to each other's LAN."""
    centre = _centre(places)
    netns.ensure(centre)
    if not netns.has_link(centre, _SWITCH):
        netns.ip(centre, f"link add {_SWITCH} type bridge")
    netns.ip(centre, f"link set {_SWITCH} up")
    for plan, other in zip(SITES, reversed(SITES), strict=True):
        _plug(places, plan.name)
        netns.ip(places.host_netns(plan.name), f"route replace {other.lan}.0/24 via {other.wan}")


def join(places: Places, name: str) -> str:
    """Bring up a place without a LAN ("cloud" or "hq"); its namespace."""
    netns.ensure(places.netns(name))
    _plug(places, name)
    return places.netns(name)


def namespaces(places: Places) -> list[str]:
    """Of the switch and of all places that have no LAN."""
    return [_centre(places), *(places.netns(name) for name in WAN if name not in {plan.name for plan in SITES})]


def cut(places: Places, ways: Iterable[tuple[str, str]]) -> None:
    """From now on exactly these ways, each (from, to), are cut."""
    drops = [f'    iifname "{source}" oifname "{target}" ether type ip drop' for source, target in sorted(set(ways))]
    rules = _RULES.format(drops="\n".join(drops))
    tools.run(["ip", "netns", "exec", _centre(places), "nft", "-f", "-"], stdin=rules.encode())


def _plug(places: Places, name: str) -> None:
    host, centre = places.netns(name), _centre(places)
    netns.connect_links((host, "wan"), (centre, name))
    netns.ip(host, f"addr replace {WAN[name]}/24 dev wan")
    netns.ip(centre, f"link set {name} master {_SWITCH}")


def _centre(places: Places) -> str:
    return places.netns("wan")
