"""`leeward vault prune` of several VMs, one of which cannot be pruned. The vault is real."""

import json

import pytest
from tests.vault.conftest import CHEAP
from tests.vault.pen import Pen

from leeward.agent.keys import save_keys
from leeward.cli.main import main
from leeward.domain.retention import Retention
from leeward.vault import keyspace
from leeward.vault.facade import Vault
from leeward.vault.stores.local import LocalStore

VMS = {f"00000000-0000-4000-8000-00000000000{number}": name for number, name in enumerate(("db", "mail", "web"))}
MAIL = next(vm_id for vm_id, name in VMS.items() if name == "mail")


@pytest.fixture
def vault(tmp_path, monkeypatch):
    """Three VMs with 20 points each, a second apart."""
    made = Vault.create(LocalStore(tmp_path / "vault"), "secret", cost=CHEAP)[0]
    save_keys(tmp_path / "s", made.keys)
    for vm_id, name in VMS.items():
        made.put_document(vm_id, "catalog", {"name": name, "policy": {}})
        pen = Pen(made, vm_id)
        pen.resize("vda", 2)
        for number in range(20):
            pen.put("vda", number % 2, bytes([number + 1]) * 65536).commit()
    config = tmp_path / "leeward.toml"
    config.write_text(f'[vault]\nurl = "file://{tmp_path}/vault"\n[daemon]\nstate = "{tmp_path}/s"\n')
    monkeypatch.setenv("LEEWARD_CONFIG", str(config))
    monkeypatch.setenv("COLUMNS", "200")
    return made


@pytest.fixture
def prune(capsys):
    """prune("--json", …) → (exit code, standard output, standard error)."""

    def call(*words):
        capsys.readouterr()
        code = main(["vault", "prune", *words, "--retain", "10s", "--yes"])
        told = capsys.readouterr()
        return code, told.out, told.err

    return call


@pytest.fixture
def raced(monkeypatch):
    """Somebody else prunes mail between our plan and its being carried out."""
    ours = Vault.prune

    def late(vault, plan, *more, **how):
        if plan.vm_id == MAIL:
            monkeypatch.setattr(Vault, "prune", ours)
            ours(vault, vault.prune_plan(MAIL, Retention(15)))
        return ours(vault, plan, *more, **how)

    monkeypatch.setattr(Vault, "prune", late)


def left(vault):
    return {name: len(vault.log(vm_id).points()) for vm_id, name in VMS.items()}


def test_a_vm_that_somebody_else_prunes_keeps_no_other_from_it(vault, prune, raced):
    code, out, err = prune()
    assert code == 4
    assert left(vault) == {"db": 11, "mail": 16, "web": 11}
    assert "db " in out
    assert "web " in out
    assert "mail" not in out
    said = (
        "mail: another process has pruned this VM's log meanwhile. Run `leeward vault prune` again for what is left"
    )
    assert err == f"Error: {said}\n"


def test_so_a_script_is_told(vault, prune, raced):
    code, out, err = prune("--json")
    told = json.loads(out)
    assert (code, err.count("\n")) == (4, 1)
    assert [(row["vm"], row["points"], row["dropped"]) for row in told["vms"]] == [("db", 11, 9), ("web", 11, 9)]
    (failed,) = told["failed"]
    assert (failed["vm"], failed["vm_id"], failed["error"]["code"]) == ("mail", MAIL, "refused")
    code, out, _ = prune("--json")
    assert (code, json.loads(out)["failed"]) == (0, [])
    assert left(vault) == {"db": 11, "mail": 11, "web": 11}


def test_the_one_vm_that_was_named_is_a_failure_like_any_other(vault, prune, raced):
    code, out, err = prune("mail", "--json")
    assert (code, json.loads(out)["error"]["subject"]) == (4, "mail")
    assert err.startswith("Error: mail: another process has pruned")


def test_a_vm_whose_pruning_cannot_even_be_planned_keeps_no_other_from_it(vault, prune):
    vault.store.put(keyspace.horizon(MAIL, 1), [b"no horizon"])
    code, out, err = prune()
    assert code == 7
    assert "db " in out
    assert err.startswith(f"Error: mail: vm/{MAIL}/horizon/")
    assert left_without_mail(vault) == [11, 11]


def left_without_mail(vault):
    return [len(vault.log(vm_id).points()) for vm_id in VMS if vm_id != MAIL]
