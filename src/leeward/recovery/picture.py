"""A picture of a guest's screen, as evidence that it came up: small, and of a screen that shows something.

Pillow is loaded when a picture is made: it takes longer than a light command.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

from leeward.domain.errors import HypervisorError
from leeward.domain.evidence import MOST_BYTES

if TYPE_CHECKING:
    from PIL.Image import Image

_WIDTH, _HEIGHT = 800, 800
# A guest whose agent answers may still be drawing; one that cannot be asked is looked at until nothing moves.
_PATIENCE_UP_S, _PATIENCE_S = 5.0, 30.0
_LOOK_S = 0.5
# So many looks at the same picture make it one that stands.
_STILL = 6
# Fewer and fewer colours, until it is small enough; a photo as wallpaper needs the last ones.
_COLOURS = (256, 64, 16)


def settled_picture(
    look: Callable[[], bytes],
    *,
    up: bool,
    check: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> bytes:
    """PNG of the first look at a guest that is up and shows more than one colour; of one that cannot be asked, when
    its screen stands still. When patience ends, of the last look. look: gives a PPM or PNG file; check: raises to end
    early."""
    ends = clock() + (_PATIENCE_UP_S if up else _PATIENCE_S)
    before, still = b"", 0
    while True:
        check()
        raw = look()
        still = still + 1 if raw == before else 0
        before = raw
        image = _opened(raw)
        ready = not plain(image) and (up or still >= _STILL)
        if ready or clock() >= ends:
            return _small(image)
        sleep(_LOOK_S)


def plain(image: Image) -> bool:
    """All of one colour: a screen that is asleep, or where nothing has been drawn yet."""
    return image.convert("RGB").getcolors(1) is not None


def _opened(raw: bytes) -> Image:
    from PIL import Image, UnidentifiedImageError

    try:
        image = Image.open(io.BytesIO(raw), formats=("PPM", "PNG"))
        image.load()
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise HypervisorError(f"the screen's picture cannot be read: {error}") from error
    return image


def _small(image: Image) -> bytes:
    scaled = image.convert("RGB")
    scaled.thumbnail((_WIDTH, _HEIGHT))
    found = _png(scaled)
    for colours in _COLOURS:
        if len(found) <= MOST_BYTES:
            break
        found = _png(scaled.quantize(colours))
    while len(found) > MOST_BYTES:
        scaled.thumbnail((scaled.width // 2, scaled.height // 2))
        found = _png(scaled.quantize(_COLOURS[-1]))
    return found


def _png(image: Image) -> bytes:
    written = io.BytesIO()
    image.save(written, "PNG", optimize=True)
    return written.getvalue()


@lru_cache(maxsize=64)
def drawn(text: str) -> bytes:
    """A screen that shows this text, for hypervisors that have none."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (640, 400), (12, 20, 24))
    ImageDraw.Draw(image).multiline_text((24, 24), text, fill=(200, 220, 200), spacing=8)
    return _png(image)
