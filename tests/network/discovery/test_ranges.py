import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from leeward.domain.errors import BadInput
from leeward.network.discovery.ranges import MAX_ADDRESSES, parse


def addresses(*texts):
    targets = parse(texts)
    assert targets.names == ()
    return [str(address) for address in targets.addresses]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.77.0.5", ["10.77.0.5"]),
        ("10.77.0.0/30", ["10.77.0.1", "10.77.0.2"]),
        ("10.77.0.2/30", ["10.77.0.1", "10.77.0.2"]),
        ("10.77.0.4/31", ["10.77.0.4", "10.77.0.5"]),
        ("10.77.0.4/32", ["10.77.0.4"]),
        ("10.77.0.5-7", ["10.77.0.5", "10.77.0.6", "10.77.0.7"]),
        ("10.77.0.254-10.77.1.1", ["10.77.0.254", "10.77.0.255", "10.77.1.0", "10.77.1.1"]),
        ("10.77.0.5 - 6", ["10.77.0.5", "10.77.0.6"]),
        ("10.77.0.9, 10.77.0.5-6,10.77.0.9", ["10.77.0.9", "10.77.0.5", "10.77.0.6"]),
        ("10.77.0.1\n10.77.0.2\t10.77.0.3,,", ["10.77.0.1", "10.77.0.2", "10.77.0.3"]),
        ("fd00::5", ["fd00::5"]),
        ("FD00::a-fd00::c", ["fd00::a", "fd00::b", "fd00::c"]),
        ("fd00::/126", ["fd00::", "fd00::1", "fd00::2", "fd00::3"]),
        ("::1", ["::1"]),
        ("fe80::5%br-lan", ["fe80::5%br-lan"]),
        ("::ffff:10.77.0.5", ["10.77.0.5"]),
        ("127.0.0.1", ["127.0.0.1"]),
    ],
)
def test_ranges(text, expected):
    assert addresses(text) == expected


def test_parts_may_come_as_several_arguments():
    assert addresses("10.77.0.1", "10.77.0.1,10.77.0.2") == ["10.77.0.1", "10.77.0.2"]


def test_a_full_class_c_and_the_limit():
    assert len(addresses("10.77.0.0/24")) == 254
    assert len(addresses("10.0.0.0-10.0.15.255")) == MAX_ADDRESSES
    assert len(addresses("fd00::/116")) == MAX_ADDRESSES
    with pytest.raises(BadInput, match="more than 4,096"):
        parse(["10.0.0.0-10.0.15.255,10.1.0.0"])
    with pytest.raises(BadInput, match="more than 4,096"):
        parse(["10.0.0.0-10.0.15.255,web"])


def test_names_are_told_from_addresses():
    targets = parse(["KVM01.office.example., web, 10.77.0.1, web, 7zip, a_b, 10.77.0.x"])
    assert targets.names == ("kvm01.office.example", "web", "7zip", "a_b", "10.77.0.x")
    assert [str(address) for address in targets.addresses] == ["10.77.0.1"]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", ""),
        (" , ", ""),
        ("10.77.0.5,10.77.0.300", "10.77.0.300"),
        ("10.77.0.5-300", "10.77.0.5-300"),
        ("10.77.0.20-5", "10.77.0.20-5"),
        ("10.77.0.20-10.77.0.5", "10.77.0.20-10.77.0.5"),
        ("10.77.0.1-fd00::5", "10.77.0.1-fd00::5"),
        ("10.77.0.05", "10.77.0.05"),
        ("10.77.0", "10.77.0"),  # the C library would take it for 10.77.0.0
        ("2130706433", "2130706433"),
        ("0x7f.1", "0x7f.1"),
        ("127.0x1", "127.0x1"),
        ("10.77.0.0/33", "10.77.0.0/33"),
        ("10.77.0.0/x", "10.77.0.0/x"),
        ("10.77.0.0/8", "10.77.0.0/8"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("::/0", "::/0"),
        ("224.0.0.1", "224.0.0.1"),
        ("223.255.255.250-224.0.0.1", "223.255.255.250-224.0.0.1"),
        ("239.1.2.0/28", "239.1.2.0/28"),
        ("255.255.255.255", "255.255.255.255"),
        ("0.0.0.0", "0.0.0.0"),
        ("0.1.2.3", "0.1.2.3"),
        ("::", "::"),
        ("ff02::1", "ff02::1"),
        ("::ffff:224.0.0.1", "::ffff:224.0.0.1"),
        ("::ffff:224.0.0.0/124", "::ffff:224.0.0.0/124"),
        ("fe80::1", "fe80::1"),
        ("fe80::1-fe80::3", "fe80::1-fe80::3"),
        ("fe80::1%e;th", "fe80::1%e;th"),
        ("10.77.0.1%eth0", "10.77.0.1%eth0"),
        ("web!", "web!"),
        ("-web", "-web"),
        ("web..office", "web..office"),
        ("a" * 64, "a" * 64),
        ("http://web/", "http://web/"),
        ("web:22", "web:22"),
        ("müller", "müller"),
        ("10.77.0.٣", "10.77.0.٣"),
    ],
)
def test_what_cannot_be_used_is_named(text, part):
    with pytest.raises(BadInput) as failed:
        parse([text])
    assert failed.value.subject == part
    assert failed.value.hint


def test_endless_input_is_refused_at_once():
    with pytest.raises(BadInput, match="longer than"):
        parse(["10.0.0.1," * 100_000])
    with pytest.raises(BadInput, match="more than"):
        parse(["10.0.0.0/20," * 2 + "10.1.0.0/20," * 3000])


octets = some.integers(0, 255)
hosts = some.ip_addresses(v=4).filter(lambda address: 1 << 24 <= int(address) < 224 << 24)


@given(hosts, octets)
def test_a_short_range_is_the_long_one(first, last):
    text = f"{first}-{last}"
    if last < int(first) & 255:
        with pytest.raises(BadInput):
            parse([text])
        return
    got = parse([text]).addresses
    assert [int(address) for address in got] == list(range(int(first), (int(first) & ~255) + last + 1))
    assert parse([f"{first}-{got[-1]}"]).addresses == got


@settings(max_examples=settings.default.max_examples * 3 // 10)
@given(some.lists(some.tuples(hosts, some.integers(20, 32)), min_size=1, max_size=4))
def test_networks_hold_their_hosts_once_and_in_order(networks):
    parts = [ipaddress.ip_network(f"{address}/{length}", strict=False) for address, length in networks]
    expected = list(dict.fromkeys(host for part in parts for host in part.hosts()))
    try:
        got = parse([",".join(map(str, parts))]).addresses
    except BadInput:
        # Also where a network reaches into what is refused; the last octets of 223.255.255.0/20 do not.
        assert len(expected) > MAX_ADDRESSES
        return
    assert list(got) == expected


@given(some.text(max_size=60) | some.text(alphabet="0123456789.:/-%,abcdefx ", max_size=40))
def test_any_text_parses_or_is_refused(text):
    try:
        targets = parse([text])
    except BadInput as error:
        assert str(error)
        return
    assert 0 < len(targets.addresses) + len(targets.names) <= MAX_ADDRESSES
    assert len(set(targets.addresses)) == len(targets.addresses)
    for address in targets.addresses:
        assert not address.is_multicast
        assert not address.is_unspecified
    for name in targets.names:
        assert name.isascii()
        assert not any(mark.isspace() for mark in name)
        with pytest.raises(ValueError, match="not appear"):
            ipaddress.ip_address(name)
