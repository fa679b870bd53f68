"""Address ranges as an administrator writes them. Pure: names are told apart here and looked up elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from leeward.domain.errors import BadInput

Address = IPv4Address | IPv6Address

MAX_ADDRESSES = 4096
_MAX_TEXT = 100_000  # all parts together; 4,096 of the longest addresses fit
_HINT = "Write it like 10.77.0.0/24, 10.77.0.5-20, 10.77.0.5, fd00::5 or a host name"
_SHORT_RANGE = re.compile(r"([0-9.]+)-([0-9]{1,3})")
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", re.IGNORECASE)
_INTERFACE = re.compile(r"[A-Za-z0-9._-]{1,15}")
# What the C library would take for a number; it reads "10.77" as 10.0.0.77.
_NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Targets:
    """What to scan: addresses in the order given, each once, and host names still to be looked up."""

    addresses: tuple[Address, ...]
    names: tuple[str, ...]


def parse(texts: Iterable[str]) -> Targets:
    """Ranges, separated by commas or spaces. Raises BadInput that names the part it cannot use."""
    found: dict[Address, None] = {}
    names: dict[str, None] = {}
    for part in _parts(texts):
        span = _span(part)
        if span is None:
            names[part.rstrip(".").lower()] = None
        else:
            check(*span, part)
            found.update((address, None) for address in _between(*span))
        check_count(len(found) + len(names), part)
    return Targets(tuple(found), tuple(names))


def check(first: Address, last: Address, part: str) -> None:
    """Raises BadInput for a span that is backwards, too long, or holds what no host can have as its address."""
    if type(first) is not type(last) or int(last) < int(first):
        raise BadInput("the range does not go upwards", subject=part, hint=_HINT)
    check_count(int(last) - int(first) + 1, part)
    if isinstance(first, IPv4Address):
        wrong = int(first) < 1 << 24 or int(last) >= 224 << 24
    else:
        wrong = int(first) == 0 or int(last) >= 0xFF << 120 or _is_mapped(first) or _is_mapped(last)
    if wrong:
        raise BadInput("it holds multicast, broadcast or reserved addresses", subject=part, hint=_HINT)
    if isinstance(first, IPv6Address) and first.is_link_local and not first.scope_id:
        raise BadInput("a link-local address needs its interface", subject=part, hint="Write it like fe80::5%eth0")


def _parts(texts: Iterable[str]) -> list[str]:
    joined = ",".join(texts)
    if len(joined) > _MAX_TEXT:
        raise BadInput(f"the ranges are longer than {_MAX_TEXT:,} characters", hint="Scan in several steps")
    # "10.0.0.1 - 10.0.0.9" is one part.
    parts = [part for part in re.split(r"[,\s]+", re.sub(r"\s*-\s*", "-", joined)) if part]
    if not parts:
        raise BadInput("no addresses are given", hint=_HINT)
    return parts


def _span(part: str) -> tuple[Address, Address] | None:
    """First and last address; None for a host name."""
    try:
        if "/" in part:
            return _network(part)
        if short := _SHORT_RANGE.fullmatch(part):
            first = ip_address(short[1])
            return first, ip_address(f"{short[1].rpartition('.')[0]}.{short[2]}")
        if "%" in part:  # an interface's name may hold hyphens, so such an address always stands alone
            return _scoped(part)
        if ":" in part or _NUMBER.fullmatch(part.rstrip(".").rpartition(".")[2]):
            first_text, _, last_text = part.partition("-")
            return _address(first_text), _address(last_text or first_text)
    except ValueError as error:
        raise BadInput(f"this is not an address range: {error}", subject=part, hint=_HINT) from None
    if not _is_name(part):
        raise BadInput("this is neither an address range nor a host name", subject=part, hint=_HINT)
    return None


def _network(part: str) -> tuple[Address, Address]:
    network = ip_network(part, strict=False)
    first, last = network[0], network[-1]
    # An IPv4 network's own and its broadcast address are no hosts'.
    if isinstance(first, IPv4Address) and network.prefixlen < 31:
        return first + 1, last - 1
    return first, last


def _address(text: str) -> Address:
    address = ip_address(text)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _scoped(part: str) -> tuple[Address, Address]:
    address = ip_address(part)
    if isinstance(address, IPv4Address) or not _INTERFACE.fullmatch(address.scope_id or ""):
        raise ValueError("no such interface can be")
    return address, address


def _between(first: Address, last: Address) -> Iterator[Address]:
    yield first  # as it is, with its interface
    yield from (first + step for step in range(1, int(last) - int(first) + 1))


def _is_mapped(address: Address) -> bool:
    """IPv4 in IPv6's clothes: it would slip past what is refused for IPv4."""
    return isinstance(address, IPv6Address) and address.ipv4_mapped is not None


def _is_name(text: str) -> bool:
    labels = text.rstrip(".").split(".")
    return len(text) <= 253 and all(_LABEL.fullmatch(label) for label in labels)


def check_count(count: int, part: str) -> None:
    """Raises BadInput."""
    if count > MAX_ADDRESSES:
        raise BadInput(f"these are more than {MAX_ADDRESSES:,} addresses", subject=part, hint="Scan in several steps")
