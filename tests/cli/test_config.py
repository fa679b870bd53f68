"""Where the configuration is found, and what is said about a wrong one."""

from pathlib import Path

import pytest

from leeward.agent.added_hosts import keep_added
from leeward.agent.config import HostConfig
from leeward.cli.config import find_settings, read_settings
from leeward.domain.errors import BadInput, NotFound

GOOD = """
[vault]
url = "file:///srv/vault"
[[host]]
name = "office"
uri = "qemu:///system"
[[host]]
name = "away"
site = "recovery"
storage = "/images"
[daemon]
state = "/state"
"""


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LEEWARD_CONFIG", raising=False)
    monkeypatch.setenv("LEEWARD_LAB", str(tmp_path / "lab"))
    monkeypatch.setattr("leeward.cli.config.SYSTEM_FILE", tmp_path / "etc.toml")


def test_lookup_order(tmp_path, monkeypatch):
    assert find_settings().path is None
    (tmp_path / "lab").mkdir()
    places = [
        tmp_path / "lab" / "leeward.toml",
        tmp_path / "etc.toml",
        tmp_path / "leeward.toml",
        tmp_path / "env.toml",
    ]
    for place in places[:3]:
        place.write_text(GOOD)
        assert find_settings().path == place
    places[3].write_text(GOOD)
    monkeypatch.setenv("LEEWARD_CONFIG", str(places[3]))
    assert find_settings().path == places[3]
    assert find_settings(places[0]).path == places[0]
    with pytest.raises(NotFound):
        find_settings(tmp_path / "absent.toml")


def test_hosts_of_both_sites_are_the_agents(tmp_path):
    (tmp_path / "a.toml").write_text(GOOD)
    agent = read_settings(tmp_path / "a.toml").agent()
    assert [host.name for host in agent.hosts] == ["office", "away"]


def test_hosts_that_were_added_by_clicks_are_the_agents_too(tmp_path):
    (tmp_path / "a.toml").write_text(GOOD.replace("/state", str(tmp_path)))
    keep_added(tmp_path, [HostConfig("north", "recovery", "qemu:///other", Path("/disks"), "bridge:br0")])
    agent = read_settings(tmp_path / "a.toml").agent()
    assert [host.name for host in agent.hosts] == ["office", "away", "north"]
    assert agent.hosts[2].network == "bridge:br0"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("[vault]", "[vault"), "not TOML"),
        (('url = "file:///srv/vault"', "url = 7"), "vault.url = 7"),
        (('url = "file', 'uri = "file'), "vault.uri"),
        (('site = "recovery"', 'site = "moon"'), "host.1.site = 'moon'"),
        (('storage = "/images"', ""), "storage folder"),
        (('name = "away"', 'name = "office"'), "two hosts"),
        (('state = "/state"', 'state = "/state"\nautostart = "perhaps"'), "daemon.autostart = 'perhaps'"),
        (("[daemon]", '[console]\ncert = "/c.pem"\n[daemon]'), "cert and key belong together"),
        (('state = "/state"', "state = 5"), "daemon.state = 5: a path is needed"),
        (('storage = "/images"', 'storage = "/images"\nfolder = "x"'), "host.1.folder = 'x': there is no such field"),
        (("[daemon]", "[console]\nlisten = 8443\n[daemon]"), "console.listen = 8443"),
    ],
)
def test_wrong_values_are_named(tmp_path, change, words):
    path = tmp_path / "a.toml"
    path.write_text(GOOD.replace(*change))
    with pytest.raises(BadInput) as caught:
        read_settings(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
