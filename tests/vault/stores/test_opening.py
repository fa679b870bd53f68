from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from leeward.domain.errors import BadInput, NotFound
from leeward.vault.stores.cloud import CloudStore
from leeward.vault.stores.cost import USUAL_RPOS_S, cost_table, provider_of, request_cost
from leeward.vault.stores.local import LocalStore
from leeward.vault.stores.memory import MemoryStore
from leeward.vault.stores.opening import open_store
from leeward.vault.stores.retry import RetryingStore

S3_KEYS = {"access_key_id": "id", "secret_access_key": "topsecret"}
AZURE_KEYS = {"account": "office", "account_key": "dG9wc2VjcmV0"}


@pytest.fixture(autouse=True)
def no_cloud_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.startswith(("AWS_", "AZURE_")):
            monkeypatch.delenv(name)


def test_folder_and_file_address_are_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "my vault"
    store = open_store(str(folder))
    assert isinstance(store, LocalStore)
    store.put("a/b", [b"x"])
    assert store.url == f"file://{tmp_path}/my%20vault"
    assert open_store(store.url, create=False).get("a/b") == b"x"


def test_missing_folder_is_not_made_without_create(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="mounted"):
        open_store(f"file://{tmp_path}/none", create=False)
    assert not (tmp_path / "none").exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFound, match="mounted"):
        open_store(f"file://{tmp_path}/empty", create=False)
    assert not list((tmp_path / "empty").iterdir())


def test_memory_store_of_one_name_is_one_store() -> None:
    store = open_store("memory://opening-test")
    assert isinstance(store, MemoryStore)
    assert open_store("memory://opening-test") is store
    assert open_store("memory://opening-test-2") is not store
    assert store.url == "memory://opening-test"


def test_clouds_are_retried_and_folders_are_not(tmp_path: Path) -> None:
    assert isinstance(open_store("s3://office-vault/a/b/", **S3_KEYS), RetryingStore)
    assert isinstance(open_store("s3://office-vault", retry_s=0, **S3_KEYS), CloudStore)
    assert isinstance(open_store(str(tmp_path), retry_s=5), RetryingStore)


@pytest.mark.parametrize(
    ("url", "options", "told"),
    [
        ("s3://office-vault/a/b/", S3_KEYS, "s3://office-vault/a/b"),
        ("azure://office-vault", AZURE_KEYS, "azure://office-vault"),
        ("az://office-vault/x", AZURE_KEYS, "azure://office-vault/x"),
        (
            "azure://office-vault/x",
            {"account": "office", "sas_token": "sv=1&sig=topsecret"},
            "azure://office-vault/x",
        ),
    ],
)
def test_address_of_a_cloud_store_has_no_secret(url: str, options: dict[str, Any], told: str) -> None:
    assert open_store(url, **options).url == told


@pytest.mark.parametrize(
    ("url", "options", "said"),
    [
        ("", {}, "Use /folder"),
        ("vault", {}, "Use /folder"),
        ("relative/folder", {}, "Use /folder"),
        ("ftp://host/x", {}, "Use /folder"),
        ("https://bucket.s3.amazonaws.com/", {}, "s3://bucket"),
        ("file://server/share", {}, "file:///folder"),
        ("file://folder", {}, "file:///folder"),
        ("s3://", S3_KEYS, "bucket or container name"),
        ("s3:///prefix", S3_KEYS, "bucket or container name"),
        ("s3://B_ucket/x", S3_KEYS, "bucket or container name"),
        ("s3://bucket/../x", S3_KEYS, "prefix"),
        ("s3://bucket/Upper", S3_KEYS, "prefix"),
        ("s3://bucket/a//b", S3_KEYS, "prefix"),
        ("s3://bucket/a?versionId=1", S3_KEYS, r"no \? or # part"),
        ("s3://bucket/x", {}, "Set AWS_ACCESS_KEY_ID"),
        ("s3://bucket/x", {"access_key_id": "id"}, "Set AWS_ACCESS_KEY_ID"),
        ("s3://bucket/x", {**S3_KEYS, "acount": "x"}, "unknown option acount"),
        ("s3://bucket/x", {**S3_KEYS, "endpoint": "minio:9000"}, "endpoint is not"),
        ("s3://bucket/x", {**S3_KEYS, "endpoint": "http://minio:9000"}, "no TLS"),
        ("s3://bucket/x", {**S3_KEYS, "ca_file": "/does/not/exist"}, "CA file"),
        ("azure://bucket/x", {}, "AZURE_STORAGE_ACCOUNT_NAME"),
        ("azure://bucket/x", {"account_key": "a"}, "Give account"),
        ("azure://bucket/x", {"account": "a"}, "AZURE_STORAGE_ACCOUNT_KEY"),
        ("azure://bucket/x", {"account": "a", "account_key": "not base64!"}, "Access Key"),
        ("memory://x", {"region": "x"}, "unknown option"),
        ("/tmp/x", {"region": "x"}, "unknown option region"),
    ],
)
def test_bad_addresses_say_what_to_do(url: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said) as caught:
        open_store(url, **options)
    assert "topsecret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_login_in_an_address_is_refused_and_not_repeated() -> None:
    for url in ("s3://id:topsecret@bucket/x", "s3://topsecret@bucket/x"):
        with pytest.raises(BadInput, match="must not hold credentials") as caught:
            open_store(url)
        assert "topsecret" not in str(caught.value)


def test_signature_in_an_address_is_not_repeated() -> None:
    with pytest.raises(BadInput) as caught:
        open_store("azure://bucket/x?sv=1&sig=topsecret", account="a")
    assert "topsecret" not in str(caught.value)


def test_credentials_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "topsecret")
    assert open_store("s3://bucket/x").url == "s3://bucket/x"
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT", "office")
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", "sv=1&sig=topsecret")
    assert open_store("azure://bucket/x").url == "azure://bucket/x"


def test_yearly_cost_of_requests() -> None:
    assert request_cost("s3", 1, 1) == pytest.approx(157.79, abs=0.01)
    assert request_cost("azure", 1, 1) == pytest.approx(205.13, abs=0.01)
    assert request_cost("s3", 5, 10) == pytest.approx(315.58, abs=0.01)
    assert request_cost("local", 1, 100) == 0
    assert request_cost("s3", 1, 0) == 0


def test_cost_table_falls_with_the_rpo() -> None:
    rows = cost_table("azure", 3)
    assert [row.rpo_s for row in rows] == list(USUAL_RPOS_S)
    assert [row.dollars_a_year for row in rows] == sorted((row.dollars_a_year for row in rows), reverse=True)


@pytest.mark.parametrize(("provider", "rpo_s", "vms"), [("gopher", 1, 1), ("s3", 0, 1), ("s3", -1, 1), ("s3", 1, -1)])
def test_bad_cost_questions(provider: str, rpo_s: float, vms: int) -> None:
    with pytest.raises(BadInput):
        request_cost(provider, rpo_s, vms)


@pytest.mark.parametrize(
    ("url", "provider"),
    [("s3://b", "s3"), ("azure://c/x", "azure"), ("az://c", "azure"), ("/x", "local"), ("file:///x", "local")],
)
def test_provider_of_an_address(url: str, provider: str) -> None:
    assert provider_of(url) == provider
