"""Cards are mapped as the operator says, else kept, else isolated; nonsense is refused with what to do."""

import pytest

from leeward.domain.errors import BadInput, Refused
from leeward.recovery.libvirt.nics import ISOLATED, Card, Plug, cards, plan

HOST = {"bridge:br0", "network:dr"}


def planned(card, networks=None, first=None, default=""):
    plugs, warnings = plan([Card(card, first or card)], networks or {}, HOST.__contains__, default)
    return plugs[0], warnings


def test_cards_know_what_they_hang_on_and_what_they_hung_on_at_first():
    definition = """<domain><devices>
    <interface type='bridge'><mac address='52:54:00:00:00:01'/><source bridge='br0'/></interface>
    <interface type='network'><source network='default' portgroup='x'/></interface>
    <interface type='direct'><mac address='52:54:00:00:00:03'/><source dev='eth0' mode='bridge'/></interface>
    <interface type='user'/></devices></domain>"""
    keys = ["bridge:br0", "network:default", "direct:eth0", "user:"]
    assert cards(definition, None) == [Card(key, key) for key in keys]
    moved = definition.replace("br0", "br7").replace("default", "other")
    first = [card.first for card in cards(moved, definition)]
    assert first == ["bridge:br0", "network:other", "direct:eth0", "user:"]


def test_a_mapping_of_the_old_site_holds_for_points_of_the_new_one():
    mapping = {"bridge:old": "network:dr"}
    assert planned("bridge:br0", mapping, first="bridge:old")[0] == Plug("network:dr")
    assert planned("network:dr", mapping, first="bridge:old")[0] == Plug("network:dr", kept=True)
    assert planned("bridge:br0", {**mapping, "bridge:br0": ISOLATED}, first="bridge:old")[0] == Plug(ISOLATED)


@pytest.mark.parametrize(
    ("card", "networks", "plug"),
    [
        ("bridge:br0", {}, Plug("bridge:br0", kept=True)),
        ("bridge:br0", {"bridge:br0": "network:dr"}, Plug("network:dr")),
        ("bridge:br0", {"bridge:br0": "bridge:br0"}, Plug("bridge:br0", kept=True)),
        ("bridge:br0", {"bridge:br0": ISOLATED}, Plug(ISOLATED)),
        ("network:lan", {"network:lan": "bridge:br0", "network:other": "bridge:gone"}, Plug("bridge:br0")),
        ("direct:eth0", {"direct:eth0": "bridge:br0"}, Plug("bridge:br0")),
    ],
)
def test_a_card_goes_where_it_is_mapped_or_stays(card, networks, plug):
    assert planned(card, networks) == (plug, [])


@pytest.mark.parametrize("card", ["bridge:br9", "network:lan", "direct:eth0", "user:"])
def test_what_the_host_does_not_have_is_isolated_and_told(card):
    plug, warnings = planned(card)
    assert plug == Plug(ISOLATED)
    assert card in warnings[0]


def test_a_hosts_own_network_takes_what_would_else_be_isolated_and_nothing_more():
    assert planned("bridge:br9", default="network:dr") == (Plug("network:dr"), [])
    assert planned("bridge:br0", default="network:dr")[0] == Plug("bridge:br0", kept=True)
    assert planned("bridge:br9", {"bridge:br9": ISOLATED}, default="network:dr")[0] == Plug(ISOLATED)
    plug, warnings = planned("bridge:br9", default="network:gone")
    assert plug == Plug(ISOLATED)
    assert "bridge:br9" in warnings[0]


@pytest.mark.parametrize(
    ("target", "error"),
    [
        ("br0", BadInput),
        ("direct:eth0", BadInput),
        ("bridge:", BadInput),
        ("bridge:br9", Refused),
        ("network:x", Refused),
    ],
)
def test_a_mapping_that_cannot_be_is_refused(target, error):
    with pytest.raises(error, match=target):
        planned("bridge:br0", {"bridge:br0": target})
