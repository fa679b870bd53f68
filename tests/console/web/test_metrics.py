"""What Prometheus is told, read with Prometheus' own parser; and that documents and dashboard speak of the same."""

import asyncio
import gzip
import json
import re
import time
from pathlib import Path

import httpx
import prometheus_client
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.console.plan_world import DB
from tests.console.web.test_rows import NOW, a_moment, vm_status

from leeward import __version__
from leeward.console.metrics import FAMILIES, Seen, exposition, samples
from leeward.console.room import Room
from leeward.console.web.vault_door import VaultState
from leeward.domain.alerts import AlertKind
from leeward.domain.procedures import Kind
from leeward.domain.runs import Run, RunState, StepRecord, StepState
from leeward.wire.messages import PointMessage

DOCS = Path(__file__).parents[3] / "docs"
SEEN = Seen(
    version="0.1.0",
    console="north",
    agents=(2, 3),
    runs={("test", "done"): 4, ("planned", "stalled"): 1},
    alerts={AlertKind.HOST: 2},
    failing={"mail": True, "webhook": False},
)
POINT = PointMessage(id="7", time="2027-01-15T08:00:00Z", consistency="crash", disks=(), bytes=1, epoch=1)


def a_run(vm_id, took, kind=Kind.PLANNED, created=100.0):
    boot = StepRecord("boot", StepState.DONE, started=created, ended=created + took)
    return Run(
        f"r-{vm_id}-{created}",
        vm_id,
        "db",
        kind,
        home="office",
        away="site2",
        point="latest",
        by="anna",
        created=created,
        state=RunState.DONE,
        steps=(boot,),
    )


def full(**more):
    values = {
        "tested": {"id-db": 1000.0},
        "rtos": {"id-db": a_run("id-db", 12.5)},
        "room": Room(1000, 250),
    }
    one = vm_status("db", rpo_actual_s=1.5, last_point=POINT)
    return a_moment(one, vm_status("off", "disabled"), **{**values, **more})


def parsed(text):
    """{(name, labels): value}, as Prometheus reads it."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def told(moment, seen=SEEN):
    return parsed(exposition(samples(moment, seen)))


def test_prometheus_reads_what_is_told():
    found = told(full())
    vm = (("host", "office"), ("vm", "db"), ("vm_id", "id-db"))
    expected = {
        ("leeward_build_info", (("console", "north"), ("version", "0.1.0"))): 1,
        ("leeward_picture_timestamp_seconds", ()): NOW,
        ("leeward_vm_rpo_actual_seconds", vm): 1.5,
        ("leeward_vm_state", (*vm[:1], ("state", "enabled"), *vm[1:])): 1,
        ("leeward_vm_last_point_timestamp_seconds", vm): 1_800_000_000,
        ("leeward_vm_last_test_timestamp_seconds", vm): 1000,
        ("leeward_vm_last_rto_seconds", (vm[0], ("kind", "planned"), *vm[1:])): 12.5,
        ("leeward_host_up", (("host", "office"), ("site", "source"))): 1,
        ("leeward_agents_connected", ()): 2,
        ("leeward_agents_enrolled", ()): 3,
        ("leeward_vault_reachable", ()): 1,
        ("leeward_vault_filesystem_size_bytes", ()): 1000,
        ("leeward_vault_filesystem_free_bytes", ()): 250,
        ("leeward_runs_total", (("kind", "test"), ("outcome", "done"))): 4,
        ("leeward_runs_open", (("kind", "planned"), ("state", "stalled"))): 1,
        ("leeward_alerts_open", (("kind", "host"), ("severity", "critical"))): 2,
        ("leeward_alerts_open", (("kind", "drill"), ("severity", "warning"))): 0,
        ("leeward_alert_channel_failing", (("channel", "mail"),)): 1,
        ("leeward_alert_channel_failing", (("channel", "webhook"),)): 0,
    }
    assert expected.items() <= found.items()
    assert not any("id-off" in str(labels) for _, labels in found)


def test_every_family_that_is_declared_is_told():
    assert set(samples(full(), SEEN)) == set(FAMILIES)


def test_what_is_not_known_is_absent_and_not_a_number_that_means_something():
    found = {name for name, _ in told(a_moment(vm_status("db", rpo_actual_s=None, last_point=None), tested={}))}
    assert not {name for name in found if "rpo_actual" in name or "last_" in name or "filesystem" in name}
    assert "leeward_vault_reachable" not in {name for name, _ in told(full(vault=VaultState.UNKNOWN))}
    assert told(full(vault=VaultState.AWAY))[("leeward_vault_reachable", ())] == 0


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", 'x"} 1\nleeward_host_up{host="', "日本語"])
def test_no_name_of_a_vm_can_tell_something_else(name):
    plain, evil = told(a_moment(vm_status("db"))), told(a_moment(vm_status(name)))
    assert sorted(sample for sample, _ in evil) == sorted(sample for sample, _ in plain)
    assert [dict(labels)["vm"] for sample, labels in evil if sample == "leeward_vm_cycles_total"] == [name]


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
def test_names_are_as_prometheus_wants_them(family):
    """https://prometheus.io/docs/practices/naming/: base units, _total for counters and for nothing else."""
    assert re.fullmatch(r"leeward(_[a-z]+)+", family.name)
    assert (family.kind == "counter") is family.name.endswith("_total")
    assert not re.search(r"_(ms|millis\w*|minutes|hours|days|kb|kib|mb|mib|gib|percent)(_|$)", family.name)
    assert "timestamp" not in family.name or family.name.endswith("_timestamp_seconds")
    assert all(re.fullmatch(r"[a-z][a-z_]*", label) and label not in ("le", "quantile") for label in family.labels)
    assert family.help.endswith(".")
    assert "\n" not in family.help


# --- documents ----------------------------------------------------------------------------------------------


def test_the_document_lists_all_of_them_as_they_are():
    text = (DOCS / "metrics.md").read_text()
    rows = re.findall(r"^\| `(leeward_\w+)` \| (\w+) \| (.*?) \| (.*?) \|$", text, re.M)
    assert rows == [
        (one.name, one.kind, ", ".join(f"`{label}`" for label in one.labels) or "–", one.help)
        for one in FAMILIES.values()
    ]


def board():
    return json.loads((DOCS / "grafana" / "leeward.json").read_text())


def queries():
    for panel in board()["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]
    for variable in board()["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["query"]


def test_the_grafana_dashboard_asks_for_what_there_is():
    known = set(FAMILIES) | {"process_cpu_seconds_total", "process_resident_memory_bytes"}
    asked = set()
    for title, query in queries():
        names = set(re.findall(r"\b((?:leeward|process)_\w+)", query))
        assert names, title
        assert names <= known, title
        asked |= names
    assert len(asked) > 15


def test_the_grafana_dashboard_uses_labels_that_there_are():
    for title, query in queries():
        for name, inside in re.findall(r"((?:leeward)_\w+){(.*?)}", query):
            for label in re.findall(r"(\w+)(?:=~|!~|!=|=)", inside):
                assert label in {*FAMILIES[name].labels, "job", "instance"}, (title, name, label)
    ids = [panel["id"] for panel in board()["panels"]]
    assert len(ids) == len(set(ids))


# --- asking -------------------------------------------------------------------------------------------------


def ask(stand, secret="", **headers):
    """As Prometheus asks: no cookie, no header of a browser."""
    if secret:
        headers |= {"Authorization": f"Bearer {secret}"}

    async def once():
        transport = httpx.ASGITransport(app=stand.app, client=("203.0.113.7", 5))
        async with httpx.AsyncClient(transport=transport, base_url="https://console") as client:
            return await client.get("/metrics", headers=headers)

    return asyncio.run(once())


@pytest.fixture(scope="module")
def secret(shared):
    return shared.local.post("/tokens", {"name": "prometheus", "role": "viewer"}).json()["token"]


def test_a_token_of_a_viewer_is_enough(shared, secret):
    answer = ask(shared, secret)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found = parsed(answer.text)
    assert found[("leeward_build_info", (("console", "here"), ("version", __version__)))] == 1
    cycles = {
        dict(labels)["vm_id"]: value for (name, labels), value in found.items() if name.endswith("cycles_total")
    }
    assert cycles[DB] >= 1
    sent = [value for (name, _), value in found.items() if name == "leeward_vm_replicated_bytes_total"]
    assert len(sent) == 3
    assert all(value > 0 for value in sent)
    assert found[("process_resident_memory_bytes", ())] > 1 << 20


@pytest.mark.parametrize("wrong", ["", "lwt_wrong"])
def test_nobody_is_told_anything_and_in_words_for_programs(shared, wrong):
    answer = ask(shared, wrong)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "not-signed-in"
    assert "leeward_" not in answer.text


def test_it_is_sent_packed_where_that_is_understood(shared, secret):
    packed = ask(shared, secret, **{"Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.headers["vary"] == "Accept-Encoding"
    assert "leeward_build_info" in packed.text  # httpx has unpacked it
    assert "content-encoding" not in ask(shared, secret, **{"Accept-Encoding": "identity"}).headers


def test_nothing_global_is_touched(shared, secret):
    before = prometheus_client.generate_latest().count(b"\n# TYPE")
    for _ in range(3):
        assert ask(shared, secret).status_code == 200
    after = prometheus_client.generate_latest()
    assert after.count(b"\n# TYPE") == before
    assert b"leeward" not in after


@pytest.mark.slow
def test_ten_thousand_vms_are_told_within_half_a_second():
    """Of processor time, which a busy machine does not change."""
    moment = a_moment(*[vm_status(f"vm{n:05}", rpo_actual_s=1.5) for n in range(10_000)])
    took = []
    for _ in range(5):
        began = time.process_time()
        text = exposition(samples(moment, SEEN)).encode()
        gzip.compress(text, 1)
        took.append(time.process_time() - began)
    assert min(took) < 0.5, took
    assert text.count(b"leeward_vm_rpo_actual_seconds{") == 10_000
