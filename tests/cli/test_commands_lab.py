"""The contract on a real guest, by the commands alone."""

import json
import re
import time
from pathlib import Path

import pytest
from PIL import Image
from tests.installation import Installation

from leeward.lab.guest.sequence import inspect

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]
IP = "10.77.0.51"
DOCS = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()


def documented(heading):
    """Keys of the JSON example below a heading of docs/cli.md."""
    section = DOCS.split(f"### {heading}\n", 1)[1]
    return json.loads(re.search(r"```json\n(.*?)```", section, re.DOTALL)[1])


def shows_text_under_a_title(image):
    """What the tiny guest draws (guest/start.sh): a light bar, then light text on black."""
    grey = image.convert("L")
    width, height = grey.size
    bar = grey.crop((width // 3, 2, width // 2, 3)).getextrema()
    text = grey.crop((0, height // 16, width, height // 3)).histogram()
    return bar[0] > 100 and 0.02 < sum(text[100:]) / sum(text) < 0.5


def looks_like_a_screen(run, folder, point):
    """The evidence stays when the copy is gone."""
    (view,) = run("evidence", "cliweb", "--save", str(folder))
    assert set(view) == set(documented("`leeward evidence VM`")[0])
    assert (view["outcome"], view["point"], view["rpo_target_s"]) == ("passed", point, 1.0)
    assert [(check["what"], check["passed"]) for check in view["checks"]] == [("agent", True)]
    assert 0 < view["rto_s"] < 200
    assert 0 <= view["rpo_s"] < 100
    assert view["no_picture"] == ""
    (picture,) = folder.glob("*.png")
    assert 0 < view["picture_bytes"] == picture.stat().st_size <= 200_000
    with Image.open(picture) as image:
        assert image.format == "PNG"
        assert 300 <= image.width <= 800
        assert shows_text_under_a_title(image)
        kept = Path(__file__).parents[2] / "artifacts" / "screen.png"
        kept.parent.mkdir(exist_ok=True)
        image.save(kept)


@pytest.fixture
def run(lab, guest_factory):
    guest_factory("office", "cliweb", disks=(64, 32), ip=IP)
    with Installation(lab, "cli") as installation:
        yield installation


def test_the_main_job(run, lab, tmp_path):
    assert set(run("host", "list")[0]) == set(documented("`leeward host list`")[0])
    assert set(run("vm", "list")[0]) == set(documented("`leeward vm list`")[0])
    disabled = run("status", "cliweb")
    assert (disabled["state"], disabled["failover_possible"]) == ("disabled", False)
    assert run("protect", "cliweb", code=3)["error"]["code"] == "not-found"  # no vault yet
    run("vault", "init")
    view = run("protect", "cliweb", "--rpo", "1s", "--retain", "2h", "--wait")
    assert set(view) == set(documented("`leeward status [VM]`"))
    assert view["state"] == "enabled"
    assert view["failover_possible"] is True
    assert view["policy"]["retain_s"] == 7200

    told = lab.http("office", IP, "/")["seq"]
    time.sleep(2.5)
    points = run("points", "cliweb")
    assert set(points[-1]) == set(documented("`leeward points VM`")[0])
    assert len(points) >= 3
    times = [point["time"] for point in points]
    assert times == sorted(times)
    chosen = points[-1]["id"]

    # A disk exported while the guest writes on: journal replayed, every record up to the point is there.
    files = {}
    for disk in ("vda", "vdb"):
        files[disk] = tmp_path / f"{disk}.raw"
        answer = run("export", "cliweb", "--point", chosen, "--disk", disk, "--to", str(files[disk]))
        assert set(answer) == set(documented("`leeward export VM`"))
    states = {disk: inspect(path, disk) for disk, path in files.items()}
    assert all(state.clean for state in states.values()), states
    found = {disk: state.records for disk, state in states.items()}
    for records in found.values():
        assert records.intact
        assert records.last >= told
    assert 0 <= found["vda"].last - found["vdb"].last <= 1

    test = run("failover", "test", "cliweb", "--point", chosen, "--wait")
    assert set(test) == set(documented("`leeward failover test VM`"))
    assert test["point"] == chosen
    assert run("failover", "list")[0]["vm"] == "cliweb"
    with lab.probe("recovery", test["network"], "10.77.0.3/24") as probe:
        copy = probe.wait(IP)
    assert copy["disks"][0]["boot_seq"] == found["vda"].last
    assert run("unprotect", "cliweb", code=4)["error"]["code"] == "refused"
    run("failover", "cleanup", "cliweb")
    run("failover", "cleanup", "cliweb", code=4)
    looks_like_a_screen(run, tmp_path / "evidence", chosen)
    drill = run("drill", "set", "cliweb", "--every", "30d", "--run", "--window", "22:00-04:00")
    assert set(drill) == set(documented("`leeward drill list`, `set VM`, `set --plan PLAN`")[0])
    assert (drill["overdue"], drill["mode"]) == (False, "run")  # it has just been tested
    assert run("drill", "list") == [drill]
    assert run("drill", "set", "cliweb", "--every", "1s", code=2)["error"]["code"] == "bad-input"
    assert run("drill", "set", "cliweb", "--never") == {"vm": "cliweb", "drill": None}

    assert run("pause", "cliweb")["state"] in ("paused", "replicating")
    ends = time.monotonic() + 10
    while run("status", "cliweb")["state"] != "paused":
        assert time.monotonic() < ends
    assert run("resume", "cliweb")["vm"] == "cliweb"
    assert run("unprotect", "cliweb")["state"] == "disabled"
    assert run("status", "cliweb")["state"] == "disabled"
    # The points stay, and are exported without any host's help.
    assert [point["id"] for point in run("points", "cliweb")][: len(points)] == [point["id"] for point in points]
    assert run("vault", "check", "--deep")["sound"] is True
