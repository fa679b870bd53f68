"""The wide-area link: who reaches whom, and what a cut takes away."""

import socket

import pytest

from leeward.lab import netns, wan
from leeward.lab.places import WAN

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]


@pytest.fixture
def places(lab):
    for place in ("cloud", "hq"):
        wan.join(lab.places, place)
    yield lab.places
    wan.cut(lab.places, ())
    for place in ("cloud", "hq"):
        netns.delete(lab.places.netns(place))


def arrives(places, source, target):
    """Whether a datagram from one place comes to another one."""
    with (
        netns.open_socket(places.netns(target), kind=socket.SOCK_DGRAM) as ear,
        netns.open_socket(places.netns(source), kind=socket.SOCK_DGRAM) as mouth,
    ):
        ear.bind((WAN[target], 0))
        ear.settimeout(0.5)
        mouth.sendto(b"hello", ear.getsockname())
        try:
            return ear.recvfrom(100) == (b"hello", (WAN[source], mouth.getsockname()[1]))
        except TimeoutError:
            return False


def ways(places):
    return {(a, b): arrives(places, a, b) for a in WAN for b in WAN if a != b}


def test_cuts_by_direction(places):
    assert all(ways(places).values())
    cut = {("office", "cloud"), ("hq", "recovery"), ("recovery", "hq")}
    wan.cut(places, cut)
    assert {way for way, whole in ways(places).items() if not whole} == cut
    wan.cut(places, {("cloud", "office")})  # exactly these, from now on
    assert {way for way, whole in ways(places).items() if not whole} == {("cloud", "office")}
    wan.cut(places, ())
    assert all(ways(places).values())


def test_a_cut_line_is_silent(places):
    """Nobody says that the line is broken: a connection neither opens nor fails."""
    with netns.open_socket(places.netns("cloud")) as server, netns.open_socket(places.netns("office")) as client:
        server.bind((WAN["cloud"], 0))
        server.listen()
        wan.cut(places, {("office", "cloud")})
        client.settimeout(1)
        with pytest.raises(TimeoutError):
            client.connect(server.getsockname())
