"""What other parts of Leeward say in English (reasons, errors, steps), said in the reader's language.

They speak in finished sentences, with names and numbers in them; a pattern of the catalogue takes one apart again.
A sentence that no pattern knows is shown as it is: an English reason is better than none.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from functools import lru_cache

from babel.messages.catalog import Catalog

# A pattern with fewer letters of its own, like "{what}: {why}", fits almost everything; one that begins with a value
# fits what other programs say too: "{text} is not {what}".
_FEWEST, _FEWEST_AFTER_A_VALUE = 5, 8
# What is longer, or has more joints, is no sentence of ours, and would take long to take apart.
_LONGEST, _MOST_JOINTS = 1000, 12
# A value in a value in a value: what goes deeper repeats itself, and is shown as it is.
_DEEPEST = 3
# Between sentences that were put together: each is said by itself.
_JOINTS = re.compile(r"; |: | \(|\)$|\. ")
_VALUE = re.compile(r"{\w+}")
_WORD = re.compile(r"\w+")
# Not what is spelled so: leeward.toml, s3://…, names of programs.
_FIRST_WORD = re.compile(r"(?!libvirt|virsh|systemd)[a-z]+(?=[ ,'’])")


def patterns_in(catalogue: Catalog) -> list[str]:
    """Texts with {names} that other parts say. Those of pages alone are never taken apart again, and would fit much
    that they are not, as "{kind} begun" does."""
    return [
        message.id
        for message in catalogue
        if isinstance(message.id, str)
        and "{" in message.id
        and any(_elsewhere(place) for place, _ in message.locations)
    ]


def whole_in(catalogue: Catalog) -> frozenset[str]:
    """The same of texts without values."""
    return frozenset(
        message.id
        for message in catalogue
        if isinstance(message.id, str)
        and "{" not in message.id
        and any(_elsewhere(place) for place, _ in message.locations)
    )


def _elsewhere(place: str) -> bool:
    """Places of pages are told from their own folder on, see `catalogue`."""
    return place == "sentences.py" or ("/" in place and not place.startswith("templates/"))


class Told:
    """patterns: texts with {names}, as gettext knows them."""

    def __init__(self, gettext: Callable[[str], str], patterns: Iterable[str]) -> None:
        self._gettext = gettext
        self._shapes = Shapes(text for text in patterns if tells_enough(text))
        self._whole = lru_cache(maxsize=4096)(self._said)

    def __call__(self, text: str) -> str:
        try:
            return self._whole(text, 0) if len(text) <= _LONGEST else text
        except RecursionError:  # whoever wrote the text must not be able to end a page
            return text

    def _said(self, text: str, depth: int) -> str:
        joints = list(_JOINTS.finditer(text))
        if len(joints) > _MOST_JOINTS:
            return text
        parts = [self._known(part, depth) for part in text.split("; ")]
        if None not in parts:  # else a value at the end of the first one would take in all the others
            return "; ".join(filter(None, parts))
        found = self._known(text, depth)
        if found is not None:
            return found
        for joint in reversed(joints):
            before = None if _a_name(text, joint) else self._known(text[: joint.start()], depth)
            if before is not None:
                return before + joint[0] + self._said(text[joint.end() :], depth)
        return text[: joints[0].end()] + self._said(text[joints[0].end() :], depth) if joints else text

    def _known(self, text: str, depth: int) -> str | None:
        """The sentence as it is said here; None: no pattern knows it."""
        if not text:
            return None
        whole = self._gettext(text)
        if whole != text:
            return whole  # before the patterns: "Shut the VM down" is no VM of the name "the VM"
        found = self._shapes.fitting(text)
        if found is None:
            return None
        pattern, values = found
        return self._gettext(pattern).format(**{name: self._value(value, depth) for name, value in values.items()})

    def _value(self, value: str, depth: int) -> str:
        """A VM may be called Recovery: one word is a name, not a text of ours, unless it comes with a space."""
        return self._whole(value, depth + 1) if " " in value and depth < _DEEPEST else value


class Shapes:
    """Patterns by the words that they have by themselves: hundreds are known, a handful may fit a text."""

    def __init__(self, patterns: Iterable[str]) -> None:
        # What says more by itself is tried first: "libvirt does not answer: …" before "{what} does not answer: …",
        # and "group {name}: {why}" before "group {name}".
        known = sorted(set(patterns), key=lambda text: (-len(_VALUE.sub("", text)), text))
        self._known = [(text, shape(text)) for text in known]
        own = [own_words(text) for text in known]
        often = Counter(word for words in own for word in words)
        # Word → the numbers of the patterns that are found by it, their rarest; "": of those that have none.
        self._by_word: dict[str, list[int]] = {}
        for number, words in enumerate(own):
            rarest = min(words, key=lambda word: (often[word], word), default="")
            self._by_word.setdefault(rarest, []).append(number)

    def candidates(self, text: str) -> list[int]:
        """Numbers of the patterns that may fit, the one that says most first."""
        words = {"", *_WORD.findall(text)}
        return sorted(number for word in words for number in self._by_word.get(word, ()))

    def fitting(self, text: str) -> tuple[str, dict[str, str]] | None:
        """(the pattern, its values)"""
        for number in self.candidates(text):
            pattern, expression = self._known[number]
            match = expression.fullmatch(text)
            if match:
                return pattern, match.groupdict()
        return None


class Beginning:
    """Errors begin with a small letter, since they go on after a name and a colon elsewhere. One that stands alone
    begins with a capital, if its first word is one of ours: how a host is called is its owner's matter. texts:
    without values; patterns: with them."""

    def __init__(self, texts: frozenset[str], patterns: Iterable[str]) -> None:
        self._texts = texts
        self._shapes = Shapes(text for text in patterns if tells_enough(text))

    def __call__(self, text: str) -> str:
        if len(text) > _LONGEST or not _FIRST_WORD.match(text):
            return text
        found = None if text in self._texts else self._shapes.fitting(text)
        ours = text in self._texts or (found is not None and _FIRST_WORD.match(found[0]))
        return text[0].upper() + text[1:] if ours else text


def own_words(pattern: str) -> set[str]:
    """Those that stand as whole words in whatever the pattern fits: no value touches them."""
    found = set()
    for match in _WORD.finditer(_VALUE.sub("\0", pattern)):
        around = match.string[max(0, match.start() - 1) : match.end() + 1]
        if "\0" not in around:
            found.add(match[0])
    return found


def _a_name(text: str, joint: re.Match[str]) -> bool:
    """What an error is about, as in "Mail: no memory left", is a name, though the catalogue may have that word."""
    return joint[0] != "; " and " " not in text[: joint.start()]


def tells_enough(pattern: str) -> bool:
    """So that what it fits is most likely ours."""
    return _own(pattern) >= (_FEWEST_AFTER_A_VALUE if pattern.startswith("{") else _FEWEST)


def _own(pattern: str) -> int:
    return len(re.sub(r"\W", "", _VALUE.sub("", pattern)))


def shape(pattern: str) -> re.Pattern[str]:
    """What a sentence of this pattern looks like. A name that comes twice stands for the same both times."""
    expression, names = "", set[str]()
    # What begins with a value would else take what stands before it for a part of that: "web: its run has stalled".
    value = f"(?:(?!{_JOINTS.pattern}).)*" if pattern.startswith("{") else ".*"
    for number, piece in enumerate(re.split(r"{(\w+)}", pattern)):
        if not number % 2:
            expression += re.escape(piece)
        elif piece in names:
            expression += f"(?P={piece})"
        else:
            names.add(piece)
            expression += f"(?P<{piece}>{value})"
            value = ".*"
    return re.compile(expression, re.DOTALL)
