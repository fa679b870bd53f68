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
    ],
)
def test_errors_by_their_words(said, kind):
    assert type(translate(libvirt.libvirtError(said), "db")) is kind


def test_a_backup_that_libvirt_has_lost_is_not_one_that_will_end():
    found = translate(libvirt.libvirtError("internal error: backup job data missing"), "db")
    assert "from inside" in found.hint
