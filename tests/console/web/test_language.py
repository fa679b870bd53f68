"""Numbers, sizes, spans and times as each language writes them; and the pictures' geometry."""

from zoneinfo import ZoneInfo

import pytest

from leeward.console.web.charts import spark, timeline
from leeward.console.web.language import chosen, language_named, zone_named
from leeward.console.web.phrases import Quote
from leeward.domain.points import RecoveryPoint
from leeward.domain.vm import Consistency

EN, JA = language_named("en"), language_named("ja")
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("wanted", "accepted", "code"),
    [
        (None, "", "en"),
        (None, "ja", "ja"),
        (None, "de-DE,de;q=0.9,ja;q=0.5,en;q=0.4", "ja"),
        (None, "ja;q=0.1, en-GB;q=0.8", "en"),
        ("ja", "en", "ja"),
        ("xx", "ja", "ja"),
        (None, "*;q=nonsense,,;q=,ja-JP", "ja"),
        (None, "\x00" * 50, "en"),
    ],
)
def test_the_language_is_the_readers_choice_then_the_browsers(wanted, accepted, code):
    assert chosen(wanted, accepted) == code


def test_numbers_and_sizes():
    assert (EN.number(1234567), JA.number(1234567)) == ("1,234,567", "1,234,567")
    assert [EN.size(n) for n in (0, 1023, 1024, 1536, 200 << 20, 5 << 40)] == [
        "0 B",
        "1,023 B",
        "1.0 KiB",
        "1.5 KiB",
        "200 MiB",
        "5.0 TiB",
    ]
    assert EN.percent(0.999) == "99%"
    assert EN.percent(1.0) == "100%"


def test_spans():
    spans = [None, 0.25, 3, 119, 120, 7199, 7200, 90_000, 4 * 86_400]
    assert [EN.span(s) for s in spans] == ["–", "0.2 sec", "3 sec", "119 sec", "2 min", "119 min", "2 hr", "1 day",
                                          "4 days"]  # fmt: skip
    assert JA.span(3) == "3 秒"
    assert JA.span(7200) == "2 時間"


def test_times_are_the_readers():
    assert EN.when("2026-03-29T00:30:00Z", BERLIN).replace("\u202f", " ") == "Mar 29, 2026, 1:30:00 AM"
    assert JA.when(1_774_744_200, BERLIN) == "2026/03/29 1:30:00"
    assert EN.when(None, BERLIN) == "–"


@pytest.mark.parametrize("name", ["", "Nowhere/At_All", "../../etc/passwd", "/etc/localtime", "\0", "Europe"])
def test_a_time_zone_that_is_none_is_utc(name):
    assert zone_named(name).utcoffset(None) is not None or str(zone_named(name)) == "UTC"


def test_texts_with_plurals():
    assert EN.ngettext("%(count)s row", "%(count)s rows", 2) == "%(count)s rows"
    assert JA.ngettext("%(count)s row", "%(count)s rows", 1) == "%(count)s 行"


def test_a_curve_stays_within_its_picture():
    curve = spark([0.0, 5.0, 10.0], 8.0, width=88, height=22)
    points = [tuple(map(float, pair.split(","))) for pair in curve.points.split()]
    assert [x for x, _ in points] == [0.0, 44.0, 88.0]
    assert all(1 <= y <= 21 for _, y in points)
    assert points[0][1] > points[1][1] > points[2][1]
    assert points[2][1] < curve.limit < points[0][1]
    assert len(spark(range(100), None).points.split()) == 60
    assert spark([0.0, 0.0], None).points


def point(number, seconds, consistency=Consistency.CRASH):
    return RecoveryPoint(str(number), 1, int(seconds * 1e9), consistency, (), 1024 * number)


def test_a_timeline_gathers_points_in_slices():
    points = [point(1, 1000), point(2, 1001), point(3, 1590, Consistency.APP), point(4, 5000)]
    picture = timeline(points, 1000, 1600, by_bytes=False)
    assert [(bar.count, bar.apps, bar.newest) for bar in picture.bars] == [(2, 0, "2"), (1, 1, "3")]
    assert picture.bars[0].x < 1
    assert all(bar.x >= 0 and bar.x + bar.width <= 100 for bar in picture.bars)
    assert picture.most == 2
    assert timeline(points, 1000, 1600, by_bytes=True).most == 3 * 1024
    assert [at for _, at in picture.ticks] == [1080, 1200, 1320, 1440, 1560]
    assert timeline([], 0, 0, by_bytes=False).bars == ()


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("this is no certificate in PEM form", "This is no certificate in PEM form"),
        ("disk vda is not part of the recovery point", "Disk vda is not part of the recovery point"),
        ("libvirt does not answer: no route", "libvirt does not answer: no route"),
        ("office cannot be reached", "office cannot be reached"),
        ("web could not come", "web could not come"),
        ("no error of ours says this", "no error of ours says this"),
        ("leeward.toml says where the vault is", "leeward.toml says where the vault is"),
        ("s3://x: no", "s3://x: no"),
        ("Fill this in.", "Fill this in."),
        ("", ""),
    ],
)
def test_an_error_that_stands_alone_begins_with_a_capital(said, shown):
    assert language_named("en").alone(Quote(said)) == shown
    assert language_named("ja").alone(Quote(said)) == language_named("ja").say(Quote(said))
