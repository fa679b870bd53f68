"""A real libvirt becomes a host while the agent runs, and is none any more."""

import pytest

from leeward.agent.config import AgentConfig
from leeward.agent.here import LibvirtHere
from leeward.agent.wiring import build_agent
from leeward.ports.recovery_provider import Wanted

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]


def test_a_libvirt_is_looked_at_added_and_removed(lab, tmp_path):
    agent = build_agent(AgentConfig("here", (), f"file://{tmp_path}/vault", tmp_path / "state"))
    agent.start()
    try:
        here = LibvirtHere(agent, tmp_path / "state", uri=lab.libvirt("recovery"))
        found = here.survey()
        assert found.software.startswith("libvirt ")
        assert not any(network.startswith("network:leeward-") for network in found.networks)
        images = tmp_path / "images"
        here.integrate(Wanted("north", "recovery", str(images), next(iter(found.networks), "")))
        (told,) = agent.link.hosts()
        assert (told.name, told.error) == ("north", "")
        assert images.stat().st_mode & 0o777 == 0o711  # QEMU's user passes through it
        here.remove("north")
        assert (agent.link.hosts(), here.hosts()) == ([], ())
        assert here.survey().software == found.software  # the libvirt itself works on
        here.integrate(Wanted("north", "recovery", str(images)))
        assert [host.error for host in agent.link.hosts()] == [""]
    finally:
        agent.stop()
