"""What lives for a short while in great numbers does not make the collector look through everything."""

import json
import subprocess
import sys

import pytest

PROGRAM = """
import gc, json, sys
if sys.argv[1] == "calm":
    from leeward.console.heap import calm
    calm()
everything = [[number] for number in range(100_000)]
looks = []
gc.callbacks.append(lambda phase, about: phase == "start" and about["generation"] == 2 and looks.append(1))
picture = None
for _ in range(30):
    picture = [[number] for number in range(10_000)]
cycles = []
for _ in range(60_000):
    one = []
    one.append(one)
print(json.dumps({"looks": len(looks), "objects": len(gc.get_objects())}))
"""


@pytest.mark.parametrize("how", ["calm", "as it is"])
def test_pictures_are_taken_without_looking_through_everything(how):
    command = [sys.executable, "-c", PROGRAM, how]
    found = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)
    assert (found["looks"] == 0) is (how == "calm")
    assert found["objects"] < 100_000 + 10_000 + 60_000  # cyclic garbage is collected all the same
