"""Object lock on moto's S3: what is kept is told with its time, stays whole and visible, and goes later."""

import json
import sys
from datetime import UTC, datetime, timedelta
from email.message import Message

import boto3
import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from tests.loopback import free_port
from tests.vault.conftest import CHEAP, VM
from tests.vault.pen import Pen
from tests.vault.stores.conftest import Server, serving
from typer.testing import CliRunner

from leeward.cli.main import app
from leeward.domain.errors import BadInput, ObjectRetained, Refused, StoreError
from leeward.domain.retention import Retention
from leeward.vault.check import check
from leeward.vault.facade import Vault
from leeward.vault.prune import _REFUSALS
from leeward.vault.stores.locking import LockRule, Mode, ObjectLock, read_rule, written_rule
from leeward.vault.stores.opening import lock_of, open_store
from leeward.vault.stores.s3_signed import Access, Answer, signature

pytestmark = pytest.mark.cloudstore
# moto asks for the header that Amazon's own libraries send beside a checksum; S3 is content with the checksum.
SERVER = """
import sys
from werkzeug.serving import run_simple
from moto.server import DomainDispatcherApplication, create_backend_app

moto = DomainDispatcherApplication(create_backend_app)

def app(environ, start_response):
    if "HTTP_X_AMZ_CHECKSUM_SHA256" in environ:
        environ["HTTP_X_AMZ_SDK_CHECKSUM_ALGORITHM"] = "SHA256"
    return moto(environ, start_response)

run_simple("127.0.0.1", int(sys.argv[1]), app, threaded=True)
"""


@pytest.fixture(scope="module")
def s3_server(tmp_path_factory):
    port = free_port()
    with serving([sys.executable, "-c", SERVER, str(port)], port, tmp_path_factory.mktemp("moto") / "log"):
        endpoint = f"http://127.0.0.1:{port}"
        keys = {"access_key_id": "test", "secret_access_key": "test", "region": "us-east-1"}
        yield Server("s3://plain", {"endpoint": endpoint, **keys})


@pytest.fixture
def s3(s3_server):
    made = boto3.client(
        "s3",
        endpoint_url=s3_server.options["endpoint"],
        aws_access_key_id="test",
        aws_secret_access_key="test",
        region_name="us-east-1",
    )
    made.create_bucket(Bucket="plain")
    yield made
    made.close()


@pytest.fixture
def bucket(s3, request):
    name = f"locked-{abs(hash(request.node.name)) % 10**9}"
    s3.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    return name


@pytest.fixture
def options(s3_server):
    return dict(s3_server.options)


def release(s3, bucket):
    """Time passes: nothing is kept any more."""
    past = datetime.now(UTC) - timedelta(seconds=1)
    for found in s3.list_object_versions(Bucket=bucket).get("Versions", []):
        s3.put_object_retention(
            Bucket=bucket,
            Key=found["Key"],
            VersionId=found["VersionId"],
            Retention={"Mode": "GOVERNANCE", "RetainUntilDate": past},
            BypassGovernanceRetention=True,
        )


def versions(s3, bucket):
    found = s3.list_object_versions(Bucket=bucket)
    return len(found.get("Versions", [])), len(found.get("DeleteMarkers", []))


def test_what_is_kept_is_refused_with_its_time_and_goes_later(s3, bucket, options):
    url = f"s3://{bucket}/vault"
    lock_of(url, **options).set_rule(LockRule(Mode.GOVERNANCE, 30))
    store = open_store(url, **options)
    store.put("some/object", [b"x"])
    before = datetime.now(UTC)
    with pytest.raises(ObjectRetained, match="the store keeps it until") as refused:
        store.delete("some/object")
    days = (refused.value.until_ns / 1e9 - before.timestamp()) / 86_400
    assert 29.9 < days < 30.1
    assert store.get("some/object") == b"x"
    assert [info.key for info in store.scan("some/")] == ["some/object"]
    store.delete("some/other")  # which there is not
    release(s3, bucket)
    store.delete("some/object")
    # Not only hidden: nothing is left that would have to be paid for.
    assert versions(s3, bucket) == (0, 0)
    store.put("some/object", [b"again"])  # and the key is free


def test_a_legal_hold_is_respected(s3, bucket, options):
    url = f"s3://{bucket}/vault"
    store = open_store(url, **options)
    store.put("held", [b"x"])
    s3.put_object_legal_hold(Bucket=bucket, Key="vault/held", LegalHold={"Status": "ON"})
    with pytest.raises(ObjectRetained, match="legal hold") as refused:
        store.delete("held")
    assert refused.value.until_ns is None
    s3.put_object_legal_hold(Bucket=bucket, Key="vault/held", LegalHold={"Status": "OFF"})
    store.delete("held")
    assert versions(s3, bucket) == (0, 0)


def test_pruning_goes_through_and_comes_back_for_the_rest(s3, bucket, options):
    url = f"s3://{bucket}/vault"
    lock_of(url, **options).set_rule(LockRule(Mode.GOVERNANCE, 1))
    vault = Vault.create(open_store(url, **options), "x", cost=CHEAP)[0]
    pen = Pen(vault, VM).resize("vda", 2)
    for number in range(30):
        pen.put("vda", number % 2, bytes([number + 1]) * 65536)
        pen.commit()
    done = pen.prune(Retention(5.0))
    assert done.points >= 20
    assert done.objects == 0
    assert done.locked >= 20
    assert done.until_ns is not None
    pen.check_all()
    assert check(vault.store, keys=vault.keys, deep=True).sound
    # Documents and pins are written on while the old ones cannot go yet.
    for number in range(8):
        vault.put_document(VM, "life", {"number": number})
    vault.unpin(VM, vault.pin(VM, "30", "test", 60))
    assert vault.document(VM, "life") == {"number": 7}
    release(s3, bucket)
    left = vault.prune_plan(VM, Retention(5.0), now_ns=pen.time)
    assert not left.drop
    later = vault.prune(left)
    assert (later.locked, later.until_ns) == (0, None)
    assert later.objects >= 20
    vault.put_document(VM, "life", {"number": 8})
    pen.check_all()


def test_not_every_kept_object_is_asked_for_one_by_one(s3, bucket, options, monkeypatch):
    url = f"s3://{bucket}/vault"
    lock_of(url, **options).set_rule(LockRule(Mode.GOVERNANCE, 1))
    vault = Vault.create(open_store(url, **options), "x", cost=CHEAP)[0]
    pen = Pen(vault, VM).resize("vda", 1)
    for _ in range(40):
        pen.commit()
    asked = []
    store, delete = vault.store, vault.store.delete
    monkeypatch.setattr(store, "delete", lambda key: (asked.append(key), delete(key)))
    done = pen.prune(Retention(5.0))
    assert done.locked > len(asked)
    assert len(asked) <= 3 * _REFUSALS


def test_a_bucket_without_it_refuses_the_rule_and_deletes_as_ever(s3, s3_server, options):
    lock = lock_of(f"{s3_server.url}/plain", **options)
    assert lock.rule() is None
    with pytest.raises(Refused, match="no object lock"):
        lock.set_rule(LockRule(Mode.GOVERNANCE, 1))
    store = open_store(f"{s3_server.url}/plain", **options)
    store.put("x", [b"x"])
    store.delete("x")
    assert list(store.scan("")) == []


def test_rules_are_read_as_they_are_written():
    for rule in (LockRule(Mode.GOVERNANCE, 30), LockRule(Mode.COMPLIANCE, 1)):
        assert read_rule(written_rule(rule)) == rule
    years = written_rule(LockRule(Mode.GOVERNANCE, 2)).replace("Days", "Years")
    assert read_rule(years) == LockRule(Mode.GOVERNANCE, 730)
    enabled = "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>"
    assert read_rule(enabled) == LockRule(None, 0)
    assert read_rule("<Error/>") is None


@pytest.mark.parametrize("token", ["", "session/token=="])
@pytest.mark.parametrize(
    ("method", "query", "body"),
    [("HEAD", {}, b""), ("PUT", {"object-lock": ""}, b"<x/>"), ("DELETE", {"versionId": "a+b/c=="}, b"")],
)
def test_requests_are_signed_as_amazons_own_library_does(monkeypatch, token, method, query, body):
    now = datetime(2026, 11, 24, 4, 29, 12, tzinfo=UTC)
    access = Access("bucket", "", "", "eu-central-1", "AKIDEXAMPLE", "secret/key", token)
    host = "bucket.s3.eu-central-1.amazonaws.com"
    headers = {"host": host, **({"content-md5": "abc="} if body else {})}
    ours = signature(access, method, "/vault/vm/1/log/0001", query, headers, body, now)

    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda *_, **__: now.replace(tzinfo=None))
    request = AWSRequest(method, f"https://{host}/vault/vm/1/log/0001", headers=headers, data=body, params=query)
    request.context["client_config"] = None
    request.context["payload_signing_enabled"] = True
    botocore.auth.S3SigV4Auth(Credentials("AKIDEXAMPLE", "secret/key", token or None), "s3", "eu-central-1").add_auth(
        request
    )
    assert ours["authorization"] == request.headers["Authorization"]
    assert ours["x-amz-date"] == request.headers["X-Amz-Date"]


def test_the_commands_set_it_and_show_it(s3, bucket, options, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", options["endpoint"])
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("LEEWARD_PASSPHRASE", "secret")
    config = tmp_path / "leeward.toml"
    config.write_text(f'[vault]\nurl = "s3://{bucket}/v"\n[daemon]\nstate = "{tmp_path}/s"\n')

    def run(*words, code=0):
        done = CliRunner().invoke(app, ["--config", str(config), "vault", *words])
        assert done.exit_code == code, (done.output, done.exception)
        return done.output

    for wrong in (("--object-lock", "90m"), ("--compliance",)):
        done = CliRunner().invoke(app, ["--config", str(config), "vault", "init", *wrong])
        assert isinstance(done.exception, BadInput)
    run("init", "--object-lock", "30d")
    assert json.loads(run("info", "--json"))["object_lock"] == {"mode": "governance", "days": 30}
    assert "30 days each (governance)" in run("info")
    # The keyring is kept like everything else.
    assert s3.head_object(Bucket=bucket, Key="v/keyring/00000001")["ObjectLockMode"] == "GOVERNANCE"


class Answers:
    """What moto never says: S3 with an object whose deletion it refuses with this code."""

    def __init__(self, code):
        self.code = code

    def request(self, method, key, query, body=b""):
        if method == "HEAD":
            return Answer(200, Message(), b"")
        return Answer(403, Message(), f"<Error><Code>{self.code}</Code></Error>".encode())


def test_credentials_that_have_ended_are_no_retention():
    with pytest.raises(ObjectRetained):
        ObjectLock(Answers("AccessDenied"), "s3://x").delete("some/object")
    with pytest.raises(StoreError, match="refused our credentials") as refused:
        ObjectLock(Answers("ExpiredToken"), "s3://x").delete("some/object")
    assert not isinstance(refused.value, ObjectRetained)
