"""What a policy takes from an operator, and what is there from before."""

import pytest
from tests.console.world import VM

from leeward.console.views import ProtectRequest
from leeward.domain.errors import BadInput

pytestmark = pytest.mark.usefixtures("quick")


def test_a_limit_without_its_unit_is_refused_and_one_of_before_is_kept(world):
    with pytest.raises(BadInput, match="at least 64KiB a second, not 10 bytes") as refused:
        world.service.protect("web", ProtectRequest(bandwidth=10))
    assert (refused.value.subject, "10M" in refused.value.hint) == ("bandwidth", True)
    assert world.service.protect("web", ProtectRequest(bandwidth=64 << 10)).policy.bandwidth == 64 << 10
    wish = world.database.wish(VM)
    world.database.protect(wish.model_copy(update={"policy": wish.policy.model_copy(update={"bandwidth": 10})}))
    changed = world.service.protect("web", ProtectRequest(rpo_s=7)).policy
    assert (changed.rpo_s, changed.bandwidth) == (7, 10)
    assert world.service.protect("web", ProtectRequest(bandwidth=0)).policy.bandwidth == 0
