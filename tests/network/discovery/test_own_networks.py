"""What is suggested to be scanned: small networks of this machine, not those of its own guests."""

from leeward.network.discovery.own_networks import networks, own_networks

TABLE = """Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
eth0	00000000	0100A8C0	0003	0	0	0	00000000	0	0	0
eth0	0000A8C0	00000000	0001	0	0	0	00FFFFFF	0	0	0
eth1	00004D0A	00000000	0001	0	0	0	00F0FFFF	0	0	0
eth1	00004D0A	00000000	0001	0	0	9	00F0FFFF	0	0	0
eth2	0000100A	00000000	0001	0	0	0	0000FFFF	0	0	0
eth3	0000FEA9	00000000	0001	0	0	0	00FFFFFF	0	0	0
eth4	0000A9C0	00000000	0000	0	0	0	00FFFFFF	0	0	0
virbr0	007AA8C0	00000000	0001	0	0	0	00FFFFFF	0	0	0
"""


def test_small_networks_without_a_router_in_between():
    assert networks(TABLE) == ("192.168.0.0/24", "10.77.0.0/20")
    assert networks("") == ()


def test_this_machine_can_be_asked():
    assert all("/" in network for network in own_networks())
