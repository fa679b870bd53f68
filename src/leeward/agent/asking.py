"""What a host is asked about one VM by those who act on a sure answer only: one that cannot tell may have it."""

from __future__ import annotations

from leeward.domain.errors import LeewardError, VmGone
from leeward.domain.vm import Power
from leeward.ports.hypervisor import Hypervisor


def surely_gone(hypervisor: Hypervisor, vm_id: str) -> bool:
    """It is not defined there any more."""
    try:
        hypervisor.vm(vm_id)
    except VmGone:
        return True
    except LeewardError:
        pass
    return False


def may_stand(hypervisor: Hypervisor, vm_id: str) -> bool:
    """Its guest is stopped in its tracks."""
    try:
        return hypervisor.vm(vm_id).power is Power.PAUSED
    except LeewardError as error:
        return not isinstance(error, VmGone)
