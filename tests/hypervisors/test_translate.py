"""What libvirt says, as errors of ours."""

import libvirt
import pytest

from leeward.domain.errors import HostBusy, HypervisorError, TrackingLost
from leeward.hypervisors.libvirt.connection import translate


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("internal error: another backup job is already running", HostBusy),
        ("internal error: unable to execute QEMU command 'x': Bitmap 'b' is inconsistent", TrackingLost),
        ("internal error: backup job data missing", HypervisorError),
        ("internal error: unable to execute QEMU command 'nbd-server-start': NBD server already running", HostBusy),
    ],
)
def test_errors_by_their_words(said, kind):
    assert type(translate(libvirt.libvirtError(said), "db")) is kind


def test_a_backup_that_libvirt_has_lost_is_not_one_that_will_end():
    found = translate(libvirt.libvirtError("internal error: backup job data missing"), "db")
    assert "from inside, restart libvirtd" in found.hint


def test_who_has_an_nbd_server_of_their_own_is_told_how_to_stop_it():
    text = "internal error: unable to execute QEMU command 'nbd-server-start': NBD server already running"
    assert "qemu-monitor-command db --hmp nbd_server_stop" in translate(libvirt.libvirtError(text), "db").hint
