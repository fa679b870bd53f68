"""`leeward vault` with a place that leeward.toml does not name."""

import json
import threading

import pytest
from tests.vault.conftest import CHEAP, VM
from tests.vault.pen import Pen
from tests.vault.stores.conftest import s3_server
from typer.testing import CliRunner

from leeward.agent.identity import Identity
from leeward.agent.keys import load_keys
from leeward.cli import vault_places
from leeward.cli.main import app
from leeward.domain.errors import BadInput, NotFound, Refused, WrongKey
from leeward.recovery.export import ExportJob, open_job
from leeward.state.vault_place import PlaceFile
from leeward.vault.facade import Vault
from leeward.vault.place import Place

__all__ = ["s3_server"]
SECRET = "a-secret-that-nobody-may-see"
KEYS = {"access_key_id": "AKIDEXAMPLE", "secret_access_key": SECRET}


@pytest.fixture
def vault(tmp_path, monkeypatch):
    """vault(words) → what the command said; the error that it raised when `wrong` is one."""
    monkeypatch.setenv("LEEWARD_PASSPHRASE", "an unforgettable passphrase")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    config = tmp_path / "leeward.toml"
    config.write_text(f'[daemon]\nstate = "{tmp_path}/s"\n')
    create = Vault.create.__func__
    monkeypatch.setattr(Vault, "create", classmethod(lambda *words: create(*words, cost=CHEAP)))

    def run(*words, wrong=None, typed=None):
        done = CliRunner().invoke(app, ["--config", str(config), "vault", *words], input=typed)
        if wrong is not None:
            assert isinstance(done.exception, wrong), (done.output, done.exception)
            return str(done.exception)
        assert done.exit_code == 0, (done.output, done.exception)
        return done.output

    run.config, run.place = config, PlaceFile(tmp_path / "s")
    return run


def test_a_folder_is_chosen_created_and_found_again(vault, tmp_path):
    assert json.loads(vault("place", "--json"))["source"] == "default"
    made = json.loads(vault("init", "--place", f"{tmp_path}/v", "--json"))
    assert made["url"] == f"file://{tmp_path}/v"
    assert json.loads(vault("place", "--json"))["source"] == "chosen"
    assert json.loads(vault("info", "--json"))["vault"] == made["vault"]
    assert "whose place stays" in vault("init", "--place", f"{tmp_path}/w", wrong=Refused)
    assert "no credentials" in vault("credentials", "-", typed="{}", wrong=Refused)
    # A wrong passphrase changes nothing for what runs here.
    Vault.create(Place(f"{tmp_path}/w").open(), "another passphrase altogether")
    vault("unlock", "--place", f"{tmp_path}/w", wrong=WrongKey)
    assert json.loads(vault("place", "--json"))["url"] == f"{tmp_path}/v"
    # A vault that was moved by hand.
    (tmp_path / "v").rename(tmp_path / "moved")
    vault("unlock", "--place", f"{tmp_path}/moved")
    assert json.loads(vault("info", "--json"))["url"] == f"file://{tmp_path}/moved"


def test_what_leeward_toml_says_counts_more(vault, tmp_path):
    vault.config.write_text(f'[vault]\nurl = "{tmp_path}/given"\n' + vault.config.read_text())
    for command in ("init", "unlock"):
        assert "counts more" in vault(command, "--place", f"{tmp_path}/v", wrong=Refused)
    assert json.loads(vault("place", "--json"))["source"] == "leeward.toml"
    assert "in the environment" in vault("credentials", "-", typed="{}", wrong=Refused)


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"nonsense": "x"}', '{"region": 7}'])
def test_options_that_are_none_change_nothing(vault, text):
    said = vault("init", "--place", "s3://bucket", "--place-options", "-", typed=text, wrong=BadInput)
    assert said
    assert vault.place.chosen() is None
    assert "needs --place" in vault("init", "--place-options", "-", typed="{}", wrong=BadInput)


def test_an_enrolled_host_waits_until_the_console_has_told(vault, tmp_path, monkeypatch):
    there = Vault.create(Place(f"{tmp_path}/v").open(), "an unforgettable passphrase")[0]
    monkeypatch.setattr(vault_places, "_TOLD_S", 0.3)
    me = Identity("https://console", "id", "office", "", "", "")
    monkeypatch.setattr("leeward.agent.identity.load_identity", lambda state: me)
    assert "has not told yet" in vault("unlock", wrong=NotFound)
    monkeypatch.setattr(vault_places, "_TOLD_S", 20)
    teller = threading.Timer(0.3, lambda: vault.place.save(Place(f"{tmp_path}/v", revision=1)))
    teller.start()
    assert json.loads(vault("unlock", "--json"))["vault"] == str(there.id)


@pytest.mark.cloudstore
def test_a_vault_in_s3_with_credentials_from_a_file(vault, s3_server, tmp_path):
    options = {**s3_server.options, **KEYS}
    file = tmp_path / "options.json"
    file.write_text(json.dumps(options))
    url = f"{s3_server.url}/cli"
    said = vault("init", "--place", url, "--place-options", str(file))
    shown = vault("place") + vault("place", "--json")
    assert SECRET not in said + shown
    assert "AKIDEXAMPLE" in shown
    assert vault.place.chosen().options["secret_access_key"] == SECRET
    first = vault.place.chosen().revision
    renewed = {"access_key_id": "OTHER", "secret_access_key": "renewed"}
    assert json.loads(vault("credentials", "-", "--json", typed=json.dumps(renewed)))["renewed"] is True
    chosen = vault.place.chosen()
    assert (chosen.options["secret_access_key"], chosen.options["endpoint"]) == ("renewed", options["endpoint"])
    assert chosen.revision > first
    assert json.loads(vault("check", "--json"))["sound"]
    vault("credentials", "-", typed='{"endpoint": "http://127.0.0.1:9"}', wrong=BadInput)
    assert vault.place.chosen() == chosen


def test_an_export_process_follows_the_file_while_a_vm_runs_from_it(vault, tmp_path):
    vault("init", "--place", f"{tmp_path}/v")
    key = tmp_path / "s" / "keys" / "vault.key"
    pen = Pen(Vault.open(vault.place.current().open(), keys=load_keys(tmp_path / "s")), VM).resize("vda", 2)
    pen.put("vda", 0, b"x" * 65536)
    pen.commit()
    [point] = pen.vault.log(VM).points()
    ExportJob("s3://gone", str(key), VM, point.id, "", state=f"{tmp_path}/s").save(tmp_path / "job.json")
    served, image = open_job(ExportJob.load(tmp_path / "job.json"))
    (tmp_path / "v").rename(tmp_path / "w")
    vault.place.save(Place(f"{tmp_path}/w", revision=vault.place.chosen().revision + 1))
    assert served.log(VM).points() == [point]
    assert image.disks["vda"].size == 2 * 65536
