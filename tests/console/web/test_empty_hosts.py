"""Hosts without VMs on the Recovery page: there, found, ordered and cut into pages, at no cost for each reader."""

import html
import re
import time

import pytest
from tests.console.web.test_rows import a_moment, a_test, vm_status

from leeward.console.views import HostView
from leeward.console.web.empty_hosts import rows_of
from leeward.console.web.rows import PAGE, Level, Wish, all_rows, listing


def a_host(name, site="source", error=""):
    return HostView(name=name, site=site, uri="x", reachable=not error, error=error, vms=0)


HOSTS = (a_host("office"), a_host("attic"), a_host("site2", "recovery"), a_host("site3", "recovery", "it is gone"))


def shown(wish, *statuses, **more):
    moment = a_moment(*(statuses or (vm_status(),)), **{"hosts": HOSTS, **more})
    return [(row.kind, row.name) for row in listing(rows_of(moment, wish), wish, {}).rows]


def test_each_has_a_row_in_its_place_among_hosts():
    assert shown(Wish()) == [("host", "attic"), ("vm", "db"), ("host", "site2"), ("host", "site3")]
    assert shown(Wish(down=True)) == shown(Wish())[::-1]


def test_what_is_left_of_a_vm_and_a_test_copy_make_a_host_no_empty_one():
    assert ("host", "office") not in shown(Wish(), vm_status(phase="away"))
    assert ("host", "site2") not in shown(Wish(), tests=(a_test(),))
    assert ("host", "site2") in shown(Wish())


@pytest.mark.parametrize(
    ("wish", "found"),
    [
        (Wish(words="ATT"), ["attic"]),
        (Wish(host="site2"), ["site2"]),
        (Wish(show="attention"), ["site3"]),
        (Wish(show="protected"), []),
        (Wish(show="disabled"), []),
        (Wish(show="away"), []),
        *((Wish(sort=sort), []) for sort in ("name", "state", "rpo", "size", "tested")),
    ],
)
def test_where_somebody_looks_for_it_and_nowhere_else(wish, found):
    assert [name for kind, name in shown(wish) if kind == "host"] == found


def test_it_cannot_be_chosen_and_its_id_can_be_asked_for():
    moment = a_moment(hosts=(a_host("kvm.example.org"),))
    (row,) = rows_of(moment, Wish())
    assert (row.selectable, row.vm_id, row.level) == (False, "", Level.OFF)
    assert re.fullmatch(r"[a-z0-9-]+", row.id)


def test_of_ten_thousand_vms_nothing_is_made_anew_for_each_reader():
    many = [vm_status(f"vm{n:05}") for n in range(10_000)]
    moment = a_moment(*many, hosts=tuple(a_host(f"host{n:03}") for n in range(100)))
    first = rows_of(moment, Wish())
    assert len(first) == 10_100
    assert rows_of(moment, Wish(words="x")) is first
    assert rows_of(moment, Wish(sort="name")) is all_rows(moment)
    took = []
    for rows in (all_rows(moment), first):
        best = []
        for _ in range(5):
            began = time.process_time()
            assert len(listing(rows, Wish(), {}).rows) == PAGE
            best.append(time.process_time() - began)
        took.append(min(best))
    assert took[1] < 1.5 * took[0]


def table(answer):
    body = answer.text.partition('<div id="list"')[2].partition("</table>")[0]
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


def test_as_pages_show_it(stand):
    operator = stand.as_role("operator")
    page = operator.get("/recovery")
    said = "recovery Recovery site · Details – recovery No VMs. Those that are tested or failed over come up here."
    assert f"{said} Choose VMs to protect" in table(page)
    assert page.text.count('name="vm"') == 4  # nothing to choose in that row
    assert "Choose VMs" not in table(stand.as_role("viewer").get("/recovery"))
    assert "No VMs" not in table(operator.get("/recovery?sort=name"))
    assert "recovery No VMs." in table(operator.get("/recovery?desc=1"))
    assert "VM がありません" in table(stand.as_role("viewer", language="ja").get("/recovery?q=recov"))
    stand.world.links[1].cut = True
    until_cut = time.monotonic() + 20
    while "Not reachable" not in (text := table(operator.get("/recovery?desc=1"))):
        assert time.monotonic() < until_cut, text
        stand.watch.fresh()
        time.sleep(0.1)
    assert "No VMs are known there." in text
    assert "See the host" in text
