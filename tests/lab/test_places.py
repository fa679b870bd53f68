from pathlib import Path

import pytest

from leeward.domain.errors import BadInput, NotFound
from leeward.lab.places import DEFAULT_ROOT, Places, site_plan


def test_the_folder_comes_from_the_argument_then_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LEEWARD_LAB", raising=False)
    monkeypatch.delenv("LEEWARD_LAB_CACHE", raising=False)
    assert Places.choose().root == DEFAULT_ROOT
    monkeypatch.setenv("LEEWARD_LAB", "/var/tmp/b")
    assert Places.choose().root == Path("/var/tmp/b")
    assert Places.choose("/var/tmp/c").cache == Path("/var/tmp/c/cache")
    monkeypatch.setenv("LEEWARD_LAB_CACHE", "/var/tmp/shared")
    assert Places.choose().cache == Path("/var/tmp/shared")


@pytest.mark.parametrize("root", ["relative/lab", "/var/tmp/" + "x" * 40])
def test_a_folder_that_cannot_hold_sockets_is_refused(root: str) -> None:
    with pytest.raises(BadInput, match="45 characters"):
        Places.choose(root)


def test_labs_in_two_folders_share_no_name() -> None:
    one, two = Places.choose("/var/tmp/one"), Places.choose("/var/tmp/two")
    names = [[places.host_netns(s), places.client_netns(s)] for places in (one, two) for s in ("office", "recovery")]
    flat = [name for pair in names for name in pair]
    assert len(set(flat)) == 8
    assert all(name.startswith("lw-") for name in flat)


def test_an_unknown_site_is_told() -> None:
    with pytest.raises(NotFound, match="office, recovery"):
        site_plan("moon")
