"""Single requests to S3 that obstore has no calls for, signed by hand (AWS Signature Version 4)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import Message
from functools import cached_property
from urllib.parse import quote, urlsplit

from leeward.domain.errors import StoreUnavailable

_ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, slots=True)
class Access:
    """Where a bucket is and who asks. endpoint: "" for Amazon's own; prefix: of all keys. timeout_s: a request has
    failed after this long a silence. ca_file, ca: PEM to trust besides the system's."""

    bucket: str
    prefix: str
    endpoint: str
    region: str
    key_id: str
    secret: str = field(repr=False)
    token: str = field(default="", repr=False)
    ca_file: str = ""
    timeout_s: float = 10.0
    ca: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Message
    body: bytes


class SignedS3:
    """Thread-safe: each request has a connection of its own."""

    def __init__(self, access: Access) -> None:
        self._access = access
        own = f"https://{access.bucket}.s3.{access.region}.amazonaws.com"
        parts = urlsplit(access.endpoint or own)
        self._tls = parts.scheme == "https"
        self._host = parts.netloc
        # Other servers than Amazon's name the bucket in the path.
        self._root = f"{parts.path.rstrip('/')}/{access.bucket}" if access.endpoint else ""

    def request(self, method: str, key: str, query: dict[str, str], body: bytes = b"") -> Answer:
        """key: below the prefix; "" means the bucket. Raises StoreUnavailable when there is no answer."""
        name = f"{self._access.prefix}/{key}".strip("/") if key else ""
        path = f"{self._root}/{quote(name, safe='/-_.~')}"
        headers = {"host": self._host}
        if body:
            headers["content-md5"] = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
        headers |= signature(self._access, method, path, query, headers, body, datetime.now(UTC))
        connection = self._connect()
        try:
            connection.request(method, f"{path}?{_query(query)}" if query else path, body or None, headers)
            answer = connection.getresponse()
            found = Answer(answer.status, answer.headers, answer.read())
        except (OSError, http.client.HTTPException) as fault:
            raise StoreUnavailable(f"the store does not answer: {fault}", subject=key) from None
        finally:
            connection.close()
        if found.status in (408, 429) or (found.status >= 500 and found.status not in (501, 507)):
            raise StoreUnavailable(f"the store answers with status {found.status}", subject=key)
        return found

    def _connect(self) -> http.client.HTTPConnection:
        if not self._tls:
            return http.client.HTTPConnection(self._host, timeout=self._access.timeout_s)
        return http.client.HTTPSConnection(self._host, timeout=self._access.timeout_s, context=self._trusted)

    @cached_property
    def _trusted(self) -> ssl.SSLContext:
        """Made once: reading the system's authorities takes longer than a request."""
        trusted = ssl.create_default_context()
        if self._access.ca_file:
            trusted.load_verify_locations(self._access.ca_file)
        if self._access.ca:
            trusted.load_verify_locations(cadata=self._access.ca)
        return trusted


def signature(
    access: Access, method: str, path: str, query: dict[str, str], headers: dict[str, str], body: bytes, now: datetime
) -> dict[str, str]:
    """The headers to add, so that S3 believes the request. headers: lower-case names, the host among them. Pure."""
    stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    digest = hashlib.sha256(body).hexdigest()
    added = {"x-amz-content-sha256": digest, "x-amz-date": stamp}
    if access.token:
        added["x-amz-security-token"] = access.token
    signed = dict(sorted({**headers, **added}.items()))
    names = ";".join(signed)
    lines = "".join(f"{name}:{value.strip()}\n" for name, value in signed.items())
    asked = "\n".join((method, path, _query(query), lines, names, digest))
    scope = f"{day}/{access.region}/s3/aws4_request"
    wanted = "\n".join((_ALGORITHM, stamp, scope, hashlib.sha256(asked.encode()).hexdigest()))
    key = f"AWS4{access.secret}".encode()
    for part in (day, access.region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    proof = hmac.digest(key, wanted.encode(), "sha256").hex()
    credential = f"Credential={access.key_id}/{scope}"
    return {**added, "authorization": f"{_ALGORITHM} {credential}, SignedHeaders={names}, Signature={proof}"}


def _query(query: dict[str, str]) -> str:
    pairs = sorted(query.items())
    return "&".join(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in pairs)
