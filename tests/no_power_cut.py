"""No test cuts the power: only then files lose what was not brought to the disk.

To be imported by a conftest or a file of tests whose processes die, but not their machine.
"""

import os

import pytest


@pytest.fixture(scope="module", autouse=True)
def no_power_cut():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield
