"""Our checkpoints and backup jobs on a domain: finding, clearing, deleting. Foreign ones are never touched."""

from __future__ import annotations

import time
from pathlib import Path
from xml.etree import ElementTree as ET

import libvirt

from leeward.domain.errors import HostBusy
from leeward.hypervisors.libvirt import domain_xml
from leeward.hypervisors.libvirt.connection import call, translate
from leeward.logs import log

PREFIX = "lw-"
_IDLE_S = 2.0
_POLL_S = 0.005


def name_of(token: str) -> str:
    return PREFIX + token


def ours(domain: libvirt.virDomain) -> list[libvirt.virDomainCheckpoint]:
    """Our checkpoints, in no particular order."""
    found = call(domain.name(), domain.listAllCheckpoints, 0)
    return [checkpoint for checkpoint in found if checkpoint.getName().startswith(PREFIX)]


def delete(checkpoint: libvirt.virDomainCheckpoint, *, off_too: bool = False) -> None:
    """Delete a checkpoint; when its bitmap cannot be, since it is broken, at least its record.

    Of a VM that is off only with off_too, and then the record alone: without that, libvirt could never again be asked
    to remove the bitmap from the image. Raises HypervisorError.
    """
    try:
        checkpoint.delete(0)
    except libvirt.libvirtError as error:
        if not off_too and not call(checkpoint.getName(), checkpoint.getDomain().isActive):
            raise translate(error, checkpoint.getName()) from error
        log.info("deleting only the checkpoint's record", checkpoint=checkpoint.getName(), reason=str(error))
        try:
            checkpoint.delete(libvirt.VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY)
        except libvirt.libvirtError as final:
            if final.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN_CHECKPOINT:
                raise translate(final, checkpoint.getName()) from final


def places(domain: libvirt.virDomain, name: str) -> dict[str, str]:
    """Target → image of the VM's disks when the checkpoint was made, as far as it tells. Raises TrackingLost."""
    checkpoint = call(domain.name(), domain.checkpointLookupByName, name)
    root = ET.fromstring(call(domain.name(), checkpoint.getXMLDesc, 0)).find("domain")
    if root is None:
        return {}
    return {disk.target: disk.path for disk in domain_xml.parse(ET.tostring(root, encoding="unicode")).disks}


def clear_job(domain: libvirt.virDomain, scratch: Path) -> None:
    """End a backup job that a dead run of ours left. Raises HostBusy for anybody else's job.

    Ours is known by its NBD socket below our scratch folder. A job that has no backup's description is another kind
    of job, or a backup that is just ending: the latter is waited for.
    """
    name = domain.name()
    ends = time.monotonic() + _IDLE_S
    while call(name, domain.jobInfo)[0] != libvirt.VIR_DOMAIN_JOB_NONE:
        try:
            backup = domain.backupGetXMLDesc(0)
        except libvirt.libvirtError:
            backup = ""
        if f"'{scratch}/" in backup:
            _abort(domain)
            return
        if backup or time.monotonic() > ends:
            raise HostBusy("a foreign job (backup or migration) has the right of way", subject=name)
        time.sleep(_POLL_S)


def _abort(domain: libvirt.virDomain) -> None:
    name = domain.name()
    log.info("ending a backup job of a dead run", vm=name)
    try:
        domain.abortJob()
    except libvirt.libvirtError as error:
        # It was at its end already: jobInfo goes on showing a job for a while after it was aborted.
        if error.get_error_code() != libvirt.VIR_ERR_OPERATION_INVALID:
            raise translate(error, name) from error


def wait_idle(domain: libvirt.virDomain) -> None:
    """Wait until no job is on the domain, for at most two seconds. Raises HostBusy.

    `abortJob` returns before libvirt has let go of the job. Usually that takes milliseconds; see `Settling` for when
    it takes 30 seconds.
    """
    ends = time.monotonic() + _IDLE_S
    while call(domain.name(), domain.jobInfo)[0] != libvirt.VIR_DOMAIN_JOB_NONE:
        if time.monotonic() > ends:
            raise HostBusy(
                "libvirt has not let go of the last job yet, or another one has the right of way",
                subject=domain.name(),
            )
        time.sleep(_POLL_S)


def clear_checkpoints(domain: libvirt.virDomain, keep: str | None, *, off_too: bool = False) -> bool:
    """Delete all of ours except `keep` (a checkpoint name). True when `keep` exists. off_too: as for `delete`."""
    found = False
    for checkpoint in ours(domain):
        if checkpoint.getName() == keep:
            found = True
        else:
            delete(checkpoint, off_too=off_too)
    return found
