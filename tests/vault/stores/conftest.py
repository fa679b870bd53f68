"""Real servers on loopback for the cloud stores: moto for S3, Azurite for Azure Blob; and strace for the local one.

What cannot be had skips its tests with a reason, but fails them in CI or with LEEWARD_REQUIRE_CLOUD=1.
"""

from __future__ import annotations

import base64
import email.utils
import fcntl
import hashlib
import hmac
import http.client
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest
from tests.loopback import free_port

from leeward.lab.tools import MORTAL

AZURITE = "3.37.0"
# The account that every Azurite has; published in Microsoft's documentation.
ACCOUNT = "devstoreaccount1"
ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
BUCKET = "vault-tests"


@dataclass(frozen=True)
class Server:
    """url: of the store without a prefix; options: for open_store; environment: the same for a subprocess."""

    url: str
    options: dict[str, str]


def missing(reason: str) -> None:
    """Skip, or fail where the servers are required."""
    if os.environ.get("CI") or os.environ.get("LEEWARD_REQUIRE_CLOUD"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def strace() -> str:
    """Path of strace, on a machine where it may trace."""
    program = shutil.which("strace")
    if program is None:
        missing("strace is not installed")
    assert program is not None
    done = subprocess.run([program, "-f", "-o", "/dev/null", "true"], capture_output=True, text=True)
    if done.returncode:
        missing(f"this machine does not allow tracing: {done.stderr.strip()}")
    return program


@pytest.fixture(scope="session")
def unshare() -> list[str]:
    """The beginning of a command that shall run in a mount namespace of its own."""
    command = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    done = subprocess.run([*command, "true"], capture_output=True, text=True)
    if done.returncode:
        missing(f"this machine allows no mount namespaces: {done.stderr.strip()}")
    return command


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    port = free_port()
    log = tmp_path_factory.mktemp("moto") / "log"
    with serving([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], port, log):
        endpoint = f"http://127.0.0.1:{port}"
        keys = {"access_key_id": "test", "secret_access_key": "test", "region": "us-east-1"}
        client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            region_name="us-east-1",
        )
        client.create_bucket(Bucket=BUCKET)
        yield Server(f"s3://{BUCKET}", {"endpoint": endpoint, **keys})


@pytest.fixture(scope="session")
def azure_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    program = azurite_program()
    port = free_port()
    log = tmp_path_factory.mktemp("azurite") / "log"
    options = ["--inMemoryPersistence", "--silent", "--skipApiVersionCheck", "--disableTelemetry"]
    command = [str(program), "--blobHost", "127.0.0.1", "--blobPort", str(port), *options]
    with serving(command, port, log):
        endpoint = f"http://127.0.0.1:{port}/{ACCOUNT}"
        create_container(endpoint, BUCKET)
        keys = {"account": ACCOUNT, "account_key": ACCOUNT_KEY}
        yield Server(f"azure://{BUCKET}", {"endpoint": endpoint, **keys})


def azurite_program() -> Path:
    """Azurite of the pinned version, installed from npm into the user's cache once."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "leeward"
    home = cache / f"azurite-{AZURITE}"
    program = home / "node_modules" / ".bin" / "azurite-blob"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "azurite.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            install_azurite(home)
    return program


def install_azurite(home: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        missing("npm is not installed, so Azurite cannot be had")
    assert npm is not None
    draft = home.with_name(f"{home.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    command = [npm, "install", "--no-audit", "--no-fund", "--prefix", str(draft), f"azurite@{AZURITE}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110)
    if done.returncode:
        missing(f"npm cannot install Azurite: {done.stderr[-300:]}")
    draft.rename(home)


@contextmanager
def serving(command: list[str], port: int, log: Path) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen([*MORTAL, *command], stdout=output, stderr=subprocess.STDOUT)
        try:
            if not answers(port, process):
                missing(f"{command[0]} does not answer: {log.read_text()[-500:]}")
            yield
        finally:
            process.terminate()
            process.wait(10)


def answers(port: int, process: subprocess.Popen[bytes]) -> bool:
    """It speaks HTTP, which is more than that somebody listens: Azurite does so before it can answer."""
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        line = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            line.request("GET", "/")
            line.getresponse()
        except (OSError, http.client.HTTPException):
            time.sleep(0.1)
        else:
            return process.poll() is None
        finally:
            line.close()
    return False


@pytest.fixture(name="free_port")
def port_where_nobody_listens() -> int:
    return free_port()


def create_container(endpoint: str, name: str) -> None:
    """Create Container with a Shared Key signature: obstore has no call for it."""
    date, version = email.utils.formatdate(usegmt=True), "2021-08-06"
    headers = f"x-ms-date:{date}\nx-ms-version:{version}\n"
    text = "PUT" + "\n" * 12 + headers + f"/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
    digest = hmac.new(base64.b64decode(ACCOUNT_KEY), text.encode(), hashlib.sha256).digest()
    request = urllib.request.Request(f"{endpoint}/{name}?restype=container", method="PUT")
    request.add_header("x-ms-date", date)
    request.add_header("x-ms-version", version)
    request.add_header("Authorization", f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}")
    request.add_header("Content-Length", "0")
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 201
