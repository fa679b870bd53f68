"""How to reach S3 and Azure Blob: from explicit options or the providers' usual environment variables.

Who gives credentials gives everything: then the environment says nothing (see `environment`).

Without any credential obstore asks the machine's metadata service (169.254.169.254), which on an office machine means
a timeout at best and a stranger's answer at worst. So that is done only on `instance_credentials=True`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from obstore.exceptions import BaseError
from obstore.store import AzureStore, S3Store

from leeward.domain.errors import BadInput
from leeward.vault.stores.cloud import CloudStore
from leeward.vault.stores.environment import (
    AZURE_ALONE,
    ENCRYPTION_OF_AZURE,
    ENCRYPTION_OF_S3,
    S3_ALONE,
    S3_ROLES,
    environment,
    must_stay_out,
    nothing,
)
from leeward.vault.stores.locking import ObjectLock
from leeward.vault.stores.s3_signed import Access, SignedS3

if TYPE_CHECKING:  # obstore has these in its stubs only
    from obstore.store import AzureConfig, ClientConfig, RetryConfig, S3Config, S3Credential

_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_NO_RETRY: RetryConfig = {"max_retries": 0}
_CONNECT = timedelta(seconds=10)
# Objects up to this size → seconds after which their put has failed, as long as put_timeout_s is no less. A kept
# connection over a broken line is silent, and so is an upload over a thin one; they differ in how long that lasts.
# The pace is 64 KiB/s, and some seconds for the answer. Recovery points are small: minutes would be lost before they
# come to the spool.
_PUT_TIMEOUTS = ((256 << 10, 10.0), (4 << 20, 75.0))
_SIZES = (*(size for size, _ in _PUT_TIMEOUTS), sys.maxsize)


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudOptions:
    """What both providers have in common.

    endpoint: address of a server that speaks the provider's protocol ("" the provider itself).
    ca_file, ca: PEM certificates to trust besides the system's, as a file or as they are.
    allow_http: talk to an endpoint without TLS (always allowed on loopback).
    instance_credentials: get credentials from the metadata service of the cloud machine we run on.
    read_timeout_s: a read fails after this long a silence. put_timeout_s: a put fails after this long; of a small
    object, and a delete, sooner (see _PUT_TIMEOUTS).
    """

    endpoint: str = ""
    ca_file: str = ""
    ca: str = ""
    allow_http: bool = False
    instance_credentials: bool = False
    read_timeout_s: float = 30.0
    put_timeout_s: float = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Options(CloudOptions):
    """Without credentials empty values come from AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
    AWS_SESSION_TOKEN, AWS_ENDPOINT_URL; roles from AWS_WEB_IDENTITY_TOKEN_FILE or AWS_CONTAINER_CREDENTIALS_*_URI.
    With credentials the environment says nothing."""

    region: str = ""
    access_key_id: str = ""
    secret_access_key: str = ""
    session_token: str = ""

    @property
    def alone(self) -> bool:
        """Whether credentials are given, and so nothing is taken from the environment."""
        return bool(self.access_key_id or self.secret_access_key or self.session_token)


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureOptions(CloudOptions):
    """Without credentials empty values come from AZURE_STORAGE_ACCOUNT_NAME (or AZURE_STORAGE_ACCOUNT),
    AZURE_STORAGE_ACCOUNT_KEY (or AZURE_STORAGE_KEY), AZURE_STORAGE_SAS_TOKEN, AZURE_TENANT_ID, AZURE_CLIENT_ID,
    AZURE_CLIENT_SECRET, AZURE_STORAGE_ENDPOINT. With credentials the environment says nothing."""

    account: str = ""
    account_key: str = ""
    sas_token: str = ""
    tenant_id: str = ""
    client_id: str = ""
    client_secret: str = ""

    @property
    def alone(self) -> bool:
        """As `S3Options.alone`."""
        return bool(self.account_key or self.sas_token or self.client_secret)


def s3_store(bucket: str, prefix: str, options: S3Options) -> CloudStore:
    """A store in the S3 bucket below `prefix` ("" for all of it). Raises BadInput; contacts nobody."""
    url = _url("s3", bucket, prefix)
    access = _s3_access(bucket, prefix, options)
    role = not options.alone and (options.instance_credentials or environment(*S3_ROLES))
    if not ((access.key_id and access.secret) or role):
        hint = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        raise BadInput("no credentials for S3", subject=f"s3://{bucket}", hint=hint)
    # Deletes of single objects as plain DELETE: many servers besides Amazon's lack the bulk call. A bucket with
    # object lock takes nothing without a checksum; it is the hash that signing a request needs anyway.
    config: S3Config = {"region": access.region, "disable_bulk_delete": True, "checksum_algorithm": "SHA256"}
    provider = None
    if options.alone:
        must_stay_out(ENCRYPTION_OF_S3, url)
        server = access.endpoint or f"https://s3.{access.region}.amazonaws.com"
        config |= {**S3_ALONE, "endpoint": server, "aws_endpoint_url_s3": server}
        provider = _S3Keys(access)
    elif access.endpoint:
        config["endpoint"] = access.endpoint
    try:
        reader, *writers = (
            S3Store(
                bucket,
                prefix=prefix or None,
                config=config,
                client_options=client,
                retry_config=_NO_RETRY,
                credential_provider=provider,
            )
            for client in _clients(access.endpoint, options, url)
        )
    except BaseError as fault:
        raise _unusable(fault, url) from None
    # Object lock's requests are signed with keys of our own.
    lock = ObjectLock(SignedS3(access), url) if access.key_id and access.secret else None
    return CloudStore(reader, list(zip(_SIZES, writers, strict=True)), url, lock)


def _s3_access(bucket: str, prefix: str, options: S3Options) -> Access:
    """Who asks whom; "" for keys that there are not."""
    env = nothing if options.alone else environment
    return Access(
        bucket,
        prefix,
        options.endpoint or env("AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
        options.region or env("AWS_REGION", "AWS_DEFAULT_REGION") or "us-east-1",
        options.access_key_id or env("AWS_ACCESS_KEY_ID"),
        options.secret_access_key or env("AWS_SECRET_ACCESS_KEY"),
        options.session_token or env("AWS_SESSION_TOKEN"),
        options.ca_file,
        # As long as a delete has elsewhere; each of these requests is as small as one.
        min(options.read_timeout_s, *_put_limits(options)),
        options.ca,
    )


class _S3Keys:
    """Gives obstore the keys; asked once, since they never expire. As part of its configuration they would be used
    with a session token of the environment, which nothing there takes back: an empty one is sent as such."""

    def __init__(self, access: Access) -> None:
        self._keys: S3Credential = {
            "access_key_id": access.key_id,
            "secret_access_key": access.secret,
            "token": access.token or None,
            "expires_at": None,
        }

    def __call__(self) -> S3Credential:
        return self._keys


def azure_store(container: str, prefix: str, options: AzureOptions) -> CloudStore:
    """A store in the Azure Blob container below `prefix` ("" for all of it). Raises BadInput; contacts nobody."""
    url = _url("azure", container, prefix)
    env = nothing if options.alone else environment
    endpoint = options.endpoint or env("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT")
    account = options.account or env("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT")
    if not account:
        hint = "Give account with the credentials" if options.alone else "Set AZURE_STORAGE_ACCOUNT_NAME"
        raise BadInput("the storage account is not named", subject=url, hint=hint)
    config: AzureConfig = {"account_name": account, **_azure_credentials(options, url)}
    if options.alone:
        must_stay_out(ENCRYPTION_OF_AZURE, url)
        config |= {**AZURE_ALONE, "endpoint": endpoint or f"https://{account}.blob.core.windows.net"}
    elif endpoint:
        config["endpoint"] = endpoint
    try:
        reader, *writers = (
            AzureStore(container, prefix=prefix or None, config=config, client_options=client, retry_config=_NO_RETRY)
            for client in _clients(endpoint, options, url)
        )
    except BaseError as fault:
        raise _unusable(fault, url) from None
    return CloudStore(reader, list(zip(_SIZES, writers, strict=True)), url)


def _azure_credentials(options: AzureOptions, url: str) -> AzureConfig:
    """Explicit options before the environment; key before signature before application."""
    if options.account_key:
        return {"account_key": options.account_key, "credential_type": "access_key"}
    if options.sas_token:
        return {"sas_key": options.sas_token, "credential_type": "sas_token"}
    env = nothing if options.alone else environment
    tenant = options.tenant_id or env("AZURE_TENANT_ID")
    client = options.client_id or env("AZURE_CLIENT_ID")
    secret = options.client_secret or env("AZURE_CLIENT_SECRET")
    application: AzureConfig = {
        "tenant_id": tenant,
        "client_id": client,
        "client_secret": secret,
        "credential_type": "client_secret",
    }
    if options.client_secret:
        if not (tenant and client):
            hint = "Give tenant_id and client_id with client_secret"
            raise BadInput("no credentials for Azure Blob", subject=url, hint=hint)
        return application
    if key := environment("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_KEY", "AZURE_STORAGE_ACCESS_KEY"):
        return {"account_key": key, "credential_type": "access_key"}
    if sas := environment("AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_SAS_KEY"):
        return {"sas_key": sas, "credential_type": "sas_token"}
    if secret:
        return application
    if options.instance_credentials:
        return {"credential_type": "managed_identity"}
    hint = "Set AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN"
    raise BadInput("no credentials for Azure Blob", subject=url, hint=hint)


def _clients(endpoint: str, options: CloudOptions, url: str) -> list[ClientConfig]:
    """One for reads, then those for puts, by the objects' size as in _SIZES."""
    parts = urlsplit(endpoint)
    if endpoint and (parts.scheme not in ("http", "https") or not parts.hostname):
        raise BadInput("the endpoint is not an http(s) address", subject=url, hint="For example https://host:9000")
    plain = parts.scheme == "http"
    if plain and not options.allow_http and parts.hostname not in _LOOPBACK:
        raise BadInput("the endpoint has no TLS", subject=url, hint="Use https, or set allow_http")
    shared: ClientConfig = {"connect_timeout": _CONNECT, "allow_http": plain}
    if options.ca_file or options.ca:
        file = _certificates(options.ca_file, url) if options.ca_file else b""
        shared["root_certificate"] = file + b"\n" + options.ca.encode()
    # A day: obstore has no "no limit", and a large read over a thin line is in order as long as bytes come.
    silence = timedelta(seconds=options.read_timeout_s)
    clients: list[ClientConfig] = [{**shared, "read_timeout": silence, "timeout": timedelta(days=1)}]
    clients += [{**shared, "timeout": timedelta(seconds=limit)} for limit in _put_limits(options)]
    return clients


def _put_limits(options: CloudOptions) -> list[float]:
    """Seconds, by the objects' size as in _SIZES."""
    return [*(min(limit, options.put_timeout_s) for _, limit in _PUT_TIMEOUTS), options.put_timeout_s]


def _certificates(path: str, url: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as fault:
        raise BadInput(f"cannot read the CA file {path}: {fault.strerror}", subject=url) from fault


def _unusable(fault: BaseError, url: str) -> BadInput:
    reason = str(fault).split("\n", 1)[0].rstrip(".")
    return BadInput(f"the store cannot be opened: {reason}", subject=url)


def _url(scheme: str, bucket: str, prefix: str) -> str:
    return f"{scheme}://{bucket}/{prefix}" if prefix else f"{scheme}://{bucket}"
