"""Where the tabulator key leads on a page, and whether that is the way in which somebody reads it."""

from dataclasses import dataclass
from itertools import pairwise

# An element's place is on the page, not in the window, which moves as somebody goes on.
_HERE = """() => {
  const at = document.activeElement;
  if (!at || at === document.body || at === document.documentElement) return null;
  const box = at.getBoundingClientRect(), look = getComputedStyle(at);
  const shown = (look.outlineStyle !== 'none' && parseFloat(look.outlineWidth) >= 1);
  const inside = box.bottom > 0 && box.right > 0 && box.top < innerHeight && box.left < innerWidth;
  const x = (Math.max(box.left, 0) + Math.min(box.right, innerWidth)) / 2;
  const y = (Math.max(box.top, 0) + Math.min(box.bottom, innerHeight)) / 2;
  const top = document.elementFromPoint(x, y);
  const covered = inside && !!top && !at.contains(top) && !top.contains(at) && !at.closest('label')?.contains(top);
  const stuck = !!at.closest('.side, .tasks') && innerWidth > 900;
  let right = scrollX, down = stuck ? 0 : scrollY;  // and what scrolls within the page
  for (let one = at.parentElement; one && one !== document.body; one = one.parentElement) {
    right += one.scrollLeft;
    down += one.scrollTop;
  }
  window.stops ??= new WeakMap();
  if (!window.stops.has(at)) window.stops.set(at, window.nextStop = (window.nextStop ?? 0) + 1);
  return {
    number: window.stops.get(at),
    what: at.outerHTML.replace(/\\s+/g, ' ').slice(0, 120),
    left: box.left + right, right: box.right + right, top: box.top + down, bottom: box.bottom + down,
    shown, inside, covered
  };
}"""
# What can be reached by the tabulator key: of radio buttons one, nothing that is folded away.
_REACHABLE = """() => [...document.querySelectorAll(
  'a[href], button:not(:disabled), input:not(:disabled, [type=hidden]), '
  + 'select:not(:disabled), textarea, summary, [tabindex="0"]'
)].filter(one => one.checkVisibility({visibilityProperty: true}) && one.tabIndex >= 0
  && !(one.type === 'radio' && !one.checked)).length"""
# Steps outside of the page, before its first element or behind its last one.
_OUTSIDE = 3
# Pixels by which lines of one row may differ.
_ROW = 4


@dataclass(frozen=True)
class Stop:
    """number: the same for the same element. shown: its focus can be seen; inside: it is in the window; covered:
    something else lies over it. Pixels of the whole page."""

    number: int
    what: str
    left: float
    right: float
    top: float
    bottom: float
    shown: bool
    inside: bool
    covered: bool


def here(page):
    found = page.evaluate(_HERE)
    return Stop(**found) if found else None


def walk(visitor, key="Tab", most=250):
    """From where the focus is to the end of the page. Raises AssertionError where it never ends."""
    stops, seen = [], set()
    for step in range(most):
        visitor.keys(key)
        stop = here(visitor.page)
        if stop is None and not stops and step < _OUTSIDE:
            continue
        if stop is None or stop.number in seen:
            trapped = stop is not None and stop.number != stops[0].number
            assert not trapped, f"{visitor.page.url}: the focus goes round in {stop.what}"
            return stops
        seen.add(stop.number)
        stops.append(stop)
    raise AssertionError(f"{visitor.page.url}: no end after {most} steps, at last {stops[-1].what}")


def reachable(page):
    return page.evaluate(_REACHABLE)


def disorder(stops):
    """Pairs that somebody who reads would not expect: back to the left in the same row, or up again, unless it is the
    next column that begins there. Pure."""
    return [(one, other) for one, other in pairwise(stops) if _goes_back(one, other)]


def _goes_back(one, other):
    beside = other.left >= one.right - _ROW
    if other.bottom <= one.top + _ROW:
        return not beside
    same_row = other.top < one.bottom - _ROW and one.top < other.bottom - _ROW
    within = other.left >= one.left - _ROW and other.right <= one.right + _ROW
    return same_row and other.left < one.left - _ROW and not within
