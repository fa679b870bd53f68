"""Pictures of screens: small, of a screen that shows something, whatever the hypervisor gives."""

import io
import random

import pytest
from PIL import Image

from leeward.domain.errors import HypervisorError
from leeward.domain.evidence import MOST_BYTES
from leeward.recovery.picture import drawn, plain, settled_picture


def ppm(width, height, pixel=None):
    """pixel: of all alike; else noise, which nothing can compress."""
    data = bytes(pixel) * (width * height) if pixel else random.Random(1).randbytes(3 * width * height)
    return f"P6 {width} {height} 255\n".encode() + data


class Screen:
    """Shows one thing after the other, the last one for ever. Time passes only by waiting."""

    def __init__(self, *shown):
        self.shown, self.looks, self.now = list(shown), 0, 0.0

    def look(self):
        self.looks += 1
        return self.shown.pop(0) if len(self.shown) > 1 else self.shown[0]

    def sleep(self, seconds):
        self.now += seconds

    def picture(self, up):
        png = settled_picture(self.look, up=up, clock=lambda: self.now, sleep=self.sleep)
        return Image.open(io.BytesIO(png))


TEXT = drawn("web login:")


def test_a_picture_is_small_and_of_the_same_shape():
    image = Screen(ppm(1920, 1080, (1, 2, 3))).picture(up=True)
    assert (image.format, image.size) == ("PNG", (800, 450))
    assert image.convert("RGB").getpixel((5, 5)) == (1, 2, 3)
    assert Screen(TEXT).picture(up=True).size == (640, 400)  # never made larger


def test_a_picture_of_anything_fits():
    png = settled_picture(lambda: ppm(1600, 1600), up=True)
    assert len(png) <= MOST_BYTES
    assert Image.open(io.BytesIO(png)).width >= 100


def test_a_guest_that_is_up_is_taken_when_it_shows_something():
    black = ppm(64, 48, (0, 0, 0))
    screen = Screen(black, black, TEXT)
    assert not plain(screen.picture(up=True))
    assert screen.looks == 3
    asleep = Screen(black)
    assert plain(asleep.picture(up=True))
    assert 4 < asleep.now < 7


def test_one_that_cannot_be_asked_is_taken_when_nothing_moves():
    screen = Screen(ppm(64, 48, (0, 0, 0)), *(drawn(f"booting {n}") for n in range(4)), TEXT)
    screen.picture(up=False)
    assert 9 <= screen.looks <= 13
    restless = Screen(*[drawn("left"), drawn("right")] * 100)
    assert not plain(restless.picture(up=False))
    assert 29 < restless.now < 32


@pytest.mark.parametrize("raw", [b"", b"GIF89a", b"P6 5 5 255\nxx", b"P6 99999999 99999999 255\n", TEXT[:200]])
def test_what_is_no_picture_is_told(raw):
    with pytest.raises(HypervisorError, match="cannot be read"):
        settled_picture(lambda: raw, up=True)


def test_who_lets_go_is_heeded():
    def gone():
        raise KeyError

    with pytest.raises(KeyError):
        settled_picture(lambda: TEXT, up=True, check=gone)
