"""The benches of cycles run on a real guest: what they measure is told elsewhere, here that they can."""

import json
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture
def bench(lab_cache):
    def run(*words):
        command = [sys.executable, "-m", "leeward.cli.main", "bench", *words, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (done.stdout[-2000:], done.stderr[-2000:])
        return json.loads(done.stdout)

    return run


def test_cycles(bench):
    found = bench("cycle", "--rounds", "2")
    assert [row["dirty"] for row in found] == ["nothing", "10 MB"]
    assert all(row["bare_ms"] > 0 and row["ours_ms"] > 0 for row in found)


def test_one_second_points(bench):
    found = bench("rpo", "--minutes", "0.2", "--phases", "1", "--disks", "1")
    assert 0 < found["rpo_p50_s"] <= found["rpo_p99_s"] <= found["rpo_p100_s"]
    assert found["fsync_p50_ratio"] > 0
    assert found["fsync_p99_ratio"] > 0
