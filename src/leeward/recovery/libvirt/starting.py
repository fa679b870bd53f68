"""Starting a recovered VM so that its changes are tracked from before its first write.

The VM is started paused, our checkpoint is made, named for the token that the recovery point carries, and only then
the guest runs. A replicator on this host reads that token at the log's tail and goes on from there.

A checkpoint made on a disk that has been written to already would hide those writes for good. So it is made only when
the images are as they were when they were made, and QEMU has counted no write; in any doubt there is none, and the
next cycle compares everything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import libvirt

from leeward.domain.errors import HypervisorError
from leeward.domain.vm import Power
from leeward.hypervisors.libvirt import checkpoints, domain_xml, power
from leeward.hypervisors.libvirt.connection import call, translate
from leeward.hypervisors.libvirt.offline import image_mark
from leeward.logs import log

# Named instants at which the crash tests kill us; each is just after what it names.
STEPS = ("paused", "tracked", "released")

_VALIDATE = libvirt.VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE | libvirt.VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE_VALIDATE


def marks(paths: Sequence[str]) -> dict[str, str]:
    """What changes about an image whenever it is written to; to be kept from when the image was made."""
    return {path: image_mark([path]) for path in paths}


def start_tracked(
    domain: libvirt.virDomain,
    token: str,
    made: Mapping[str, str],
    release: Callable[[], None],
    on_step: Callable[[str], None] = lambda step: None,
) -> bool:
    """Start a VM that has never run from these images; True when its changes are tracked since `token`.

    made: the images' marks. release: called just before the guest may write for the first time; once it was called,
    start the VM as any other. on_step: called at every name of STEPS. Repeat after a kill anywhere in between.
    """
    name = domain.name()
    fresh = marks(list(made)) == made
    try:
        state = power.power_of(domain)
        if state is Power.OFF:
            # Memory that was saved while it ran from other images would come back, and those with it.
            domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED | libvirt.VIR_DOMAIN_START_FORCE_BOOT)
        elif state is Power.RUNNING:
            fresh = False  # somebody else has let it go
        on_step("paused")
        targets = [disk.target for disk in domain_xml.parse(domain.XMLDesc(0)).disks]
        fresh = fresh and not any(domain.blockStats(target)[2] for target in targets)
        tracked = _usable(domain, token) or (fresh and _track(domain, token, targets))
        on_step("tracked")
        release()
        on_step("released")
        if state is not Power.RUNNING:
            domain.resume()
    except libvirt.libvirtError as error:
        raise translate(error, name) from error
    if not tracked:
        log.warning("changes are not tracked from the start; the next cycle compares everything", vm=name)
    return tracked


def _usable(domain: libvirt.virDomain, token: str) -> bool:
    """Whether the checkpoint is there with its bitmaps; what is left of a broken one is removed.

    It can only be one that was made here on untouched disks, so it holds everything since, also from another run.
    """
    name = checkpoints.name_of(token)
    for checkpoint in checkpoints.ours(domain):
        if checkpoint.getName() == name:
            try:
                domain.checkpointCreateXML(checkpoint.getXMLDesc(0), _VALIDATE)
            except libvirt.libvirtError as error:
                log.info("a checkpoint is not usable", vm=domain.name(), checkpoint=name, reason=str(error))
                checkpoints.delete(checkpoint)
                return False
            return True
    return False


def _track(domain: libvirt.virDomain, token: str, targets: list[str]) -> bool:
    """Without tracking the VM must start all the same."""
    xml = domain_xml.checkpoint_xml(checkpoints.name_of(token), targets)
    try:
        call(domain.name(), domain.checkpointCreateXML, xml, 0)
    except HypervisorError as error:
        log.warning("no checkpoint could be made", vm=domain.name(), error=str(error))
        return False
    return True
