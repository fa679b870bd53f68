"""Who may not see the lab is told so, and not that it is down."""

import pytest

from leeward.domain.errors import Refused
from leeward.lab import lab as module
from leeward.lab.lab import Lab


@pytest.mark.parametrize("call", [Lab.up, Lab.down, Lab.status])
def test_the_lab_is_for_root(monkeypatch, call):
    monkeypatch.setattr(module.os, "geteuid", lambda: 65534)
    with pytest.raises(Refused, match="needs root"):
        call(Lab("/tmp/nobodys-lab"))
