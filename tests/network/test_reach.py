"""Pure parts of reaching VMs."""

import pytest

from leeward.domain.errors import HypervisorError
from leeward.network.reach import card_of, usable_addresses

TOLD = {
    "lo": {"hwaddr": "00:00:00:00:00:00", "addrs": [{"addr": "127.0.0.1", "prefix": 8, "type": 0}]},
    "eth0": {
        "hwaddr": "52:54:00:AA:BB:CC",
        "addrs": [
            {"addr": "10.0.0.5", "prefix": 24, "type": 0},
            {"addr": "fe80::1%eth0", "prefix": 64, "type": 1},
            {"addr": "2001:db8::5", "prefix": 64, "type": 1},
        ],
    },
    "down": {"hwaddr": "52:54:00:aa:bb:cd", "addrs": None},
}
XML = """<domain><devices>
<interface><mac address='52:54:00:aa:bb:cd'/><target dev='vnet0'/></interface>
<interface><mac address='52:54:00:aa:bb:cc'/><target dev='vnet1'/></interface>
</devices></domain>"""


def test_only_addresses_that_can_be_reached_from_outside_count():
    assert [str(address) for _, address in usable_addresses(TOLD)] == ["10.0.0.5/24", "2001:db8::5/64"]
    assert usable_addresses(TOLD)[0][0] == "52:54:00:aa:bb:cc"


def test_the_card_is_found_by_its_hardware_address():
    assert card_of(XML, "52:54:00:aa:bb:cc") == ("52:54:00:aa:bb:cc", "vnet1")
    assert card_of(XML, "") == ("52:54:00:aa:bb:cd", "vnet0")
    with pytest.raises(HypervisorError, match="no card"):
        card_of("<domain><devices/></domain>", "")
