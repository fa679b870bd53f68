"""A world with a host beside the usual two."""

from contextlib import contextmanager

from tests.console.chaos import VM, ChaosPlace, DurableLink
from tests.console.test_crash_matrix import a_world


@contextmanager
def a_world_with(name, site):
    """world.NAME: its place."""
    with a_world() as world:
        place = ChaosPlace(world, name, site, world.folder / name)
        setattr(world, name, place)
        place.start_agent()
        made = world.make_links

        def links(places, database):
            return [*made(places, database), DurableLink(place, world.boxes.setdefault(name, {}))]

        world.make_links = links
        world.restart_console()
        world.wait(lambda: name in world.fleet.view().by_host)
        yield world
        place.stop_agent()


def power(place):
    return next((vm.power for vm in place.hypervisor.vms() if vm.id == VM), None)
