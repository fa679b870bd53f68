"""A vault in S3 chosen while console and agent run: both use it without a restart, and the agent has it from the
console."""

import json
import secrets
import stat

import pytest
from tests.cli.test_agent_commands import machines
from tests.console.stand import until
from tests.vault.stores.conftest import s3_server

__all__ = ["machines", "s3_server"]
pytestmark = [pytest.mark.slow, pytest.mark.cloudstore, pytest.mark.timeout(300)]


def test_a_place_that_is_chosen_while_everything_runs(machines, s3_server):
    console, host = machines
    for machine in machines:
        text = machine.config.read_text()
        machine.config.write_text(text[text.index("[daemon]") :])
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
            machine.environment.pop(name, None)
    console.start("serve")
    until(lambda: console.run("agents", "list").returncode == 0, 60)
    host.start("agent", "run")
    host.json("agent", "enrol", "-", typed=console.json("agents", "token")["token"] + "\n")
    until(lambda: host.json("agent", "status")["state"] == "connected", 60)

    url = f"{s3_server.url}/told-{secrets.token_hex(4)}"
    options = json.dumps({**s3_server.options, "secret_access_key": "first"})
    made = console.json("vault", "init", "--place", url, "--place-options", "-", typed=options)
    # It waits for what the console tells, and asks nobody for credentials.
    unlocked = host.json("vault", "unlock")
    assert unlocked["vault"] == made["vault"]
    kept = host.folder / "s" / "keys" / "place.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert host.json("vault", "place")["url"] == url
    assert host.json("vault", "info")["vault"] == made["vault"]

    renewed = json.dumps({"access_key_id": "B", "secret_access_key": "second"})
    console.json("vault", "credentials", "-", typed=renewed)
    until(lambda: json.loads(kept.read_text())["options"]["secret_access_key"] == "second", 30)
    assert host.run("agent", "leave").returncode == 4, "it runs"
    host.stop()
    assert host.json("agent", "leave")["left"] is True
    assert not kept.exists()
    console.stop()
    for machine in machines:
        told = (machine.folder / "log").read_text()
        assert "first" not in told
        assert "second" not in told
        assert url in told
