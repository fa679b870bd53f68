"""Who gives credentials gives everything: what a server is sent is the same, whatever the environment says."""

import os
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from leeward.domain.errors import BadInput
from leeward.vault.stores.opening import open_store
from leeward.vault.stores.providers import S3Options, _s3_access

KEY = "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s="  # 32 bytes: fit to be anybody's key
S3 = {"access_key_id": "own", "secret_access_key": "secret"}
AZURE = {"account": "office", "account_key": KEY}
SIGNED = {"account": "office", "sas_token": "sv=1&sig=own"}
# All that obstore's binary reads, and what clients in general know.
_AWS = """access_key_id secret_access_key region default_region bucket bucket_name endpoint endpoint_url
endpoint_url_s3 session_token token virtual_hosted_style_request s3_express imdsv1_fallback
metadata_endpoint unsigned_payload checksum_algorithm container_credentials_relative_uri
container_credentials_full_uri container_authorization_token_file web_identity_token_file role_arn
role_session_name endpoint_url_sts skip_signature copy_if_not_exists conditional_put disable_tagging
disable_bulk_delete request_payer allow_http sse_kms_key_id sse_bucket_key_enabled
sse_customer_key_base64 allow_invalid_certificates user_agent default_content_type proxy_url timeout"""
_AZURE = """storage_account storage_account_name storage_account_key storage_access_key storage_master_key
storage_key storage_client_id client_id storage_client_secret client_secret storage_tenant_id
storage_authority_id tenant_id authority_id storage_authority_host authority_host storage_sas_key
storage_sas_token storage_token storage_use_emulator endpoint storage_endpoint use_fabric_endpoint
msi_endpoint identity_endpoint object_id msi_resource_id federated_token_file use_azure_cli
skip_signature container_name disable_tagging fabric_token_service_url credential_type allow_http
user_agent default_content_type proxy_url storage_connection_string"""
NAMES = [f"AWS_{name.upper()}" for name in _AWS.split()] + [f"AZURE_{name.upper()}" for name in _AZURE.split()]


class Server:
    def __init__(self):
        self.seen = []
        seen = self.seen

        class Handler(BaseHTTPRequestHandler):
            def _take(self):
                self.rfile.read(int(self.headers.get("content-length") or 0))
                seen.append((self.command, self.path, _lasting(dict(self.headers))))
                self.send_response(200)
                for name, value in (
                    ("etag", "x"),
                    ("last-modified", "Thu, 26 Nov 2026 10:00:00 GMT"),
                    ("content-length", "0"),
                ):
                    self.send_header(name, value)
                self.end_headers()

            do_PUT = do_HEAD = _take  # noqa: N815

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


def _lasting(headers):
    """Without what is another each second."""
    found = {name.lower(): value for name, value in headers.items() if "date" not in name.lower()}
    found["authorization"] = re.sub(r"/\d{8}/|Signature=\w+|:.*$", "", found.get("authorization", ""))
    return found


@pytest.fixture
def server(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("AWS_", "AZURE_")):
            monkeypatch.delenv(name)
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


def sent(server, url, options):
    server.seen.clear()
    store = open_store(url, retry_s=0, endpoint=server.url, **options)
    store.put("a/b", [b"xx"])
    store.size("a/b")
    return list(server.seen)


@pytest.mark.parametrize(
    ("url", "options"), [("s3://bucket", S3), ("azure://bucket", AZURE), ("azure://bucket", SIGNED)]
)
def test_nothing_of_the_environment_is_sent(server, monkeypatch, url, options):
    alone = sent(server, url, options)
    assert [command for command, *_ in alone] == ["PUT", "HEAD"]
    for value in ("strange", "true", "disabled", f"{server.url}/elsewhere", KEY):
        for name in NAMES:
            monkeypatch.setenv(name, value)
        assert sent(server, url, options) == alone


@pytest.mark.parametrize(
    ("url", "options", "name"),
    [
        ("s3://bucket", S3, "AWS_SERVER_SIDE_ENCRYPTION"),
        ("azure://bucket", AZURE, "AZURE_STORAGE_ENCRYPTION_KEY"),
    ],
)
def test_what_cannot_be_kept_out_is_said(server, monkeypatch, url, options, name):
    monkeypatch.setenv(name, KEY)
    with pytest.raises(BadInput, match=f"Take {name} out"):
        open_store(url, **options)


def test_half_of_the_credentials_does_not_come_from_the_environment(server, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_WEB_IDENTITY_TOKEN_FILE"):
        monkeypatch.setenv(name, "strange")
    for name in ("access_key_id", "secret_access_key"):
        with pytest.raises(BadInput, match="no credentials"):
            open_store("s3://bucket", **{name: "own"})
    for name in ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_STORAGE_ACCOUNT"):
        monkeypatch.setenv(name, "strange")
    with pytest.raises(BadInput, match="account is not named"):
        open_store("azure://bucket", account_key=KEY)
    with pytest.raises(BadInput, match="Give tenant_id and client_id"):
        open_store("azure://bucket", account="office", client_secret="own")


def test_amazon_itself_is_asked_whatever_server_the_environment_names(server, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    monkeypatch.setenv("AWS_REGION", "strange-1")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "strange")
    own = _s3_access("bucket", "", S3Options(**S3))
    assert (own.endpoint, own.region, own.token) == ("", "us-east-1", "")


def test_without_credentials_all_comes_from_the_environment(server, monkeypatch):
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "theirs"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_SESSION_TOKEN", "their-token"),
        ("AWS_ENDPOINT_URL", server.url),
        ("AWS_REGION", "their-1"),
    ):
        monkeypatch.setenv(name, value)
    open_store("s3://bucket", retry_s=0).put("a/b", [b"xx"])
    [(_, path, headers)] = server.seen
    assert path == "/bucket/a/b"
    assert headers["x-amz-security-token"] == "their-token"
    assert "Credential=theirs" in headers["authorization"]
    assert "their-1" in headers["authorization"]
