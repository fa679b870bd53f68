"""Protection is ended: nothing that has not reached the vault is lost without a word."""

import pytest
from tests.console.world import VM

from leeward.domain.errors import Refused

pytestmark = pytest.mark.usefixtures("quick")


def spooled(world):
    world.office.line.cut = True
    world.write(world.office)
    world.wait(lambda: world.service.status("web")[0].spool_bytes > 0)


def test_points_that_wait_on_the_host_are_not_given_up_unasked(world):
    spooled(world)
    with pytest.raises(Refused, match=r"have not reached the vault \(\d+ bytes\)") as refused:
        world.service.unprotect("web")
    assert "leeward unprotect web --force" in refused.value.hint
    assert world.database.wish(VM) is not None
    # Once the vault takes them there is nothing more to be asked.
    world.office.line.cut = False
    world.wait(lambda: world.service.status("web")[0].spool_bytes == 0)
    assert world.service.unprotect("web") == 0
    assert world.database.wish(VM) is None
    assert world.database.events(1)[0]["detail"] == ""


def test_who_gives_them_up_is_told_how_much_it_was(world):
    spooled(world)
    lost = world.service.unprotect("web", force=True)
    assert lost > 0
    assert world.database.wish(VM) is None
    assert world.database.events(1)[0]["detail"] == f"{lost} bytes that had not reached the vault were given up"
