"""WS-Management's Identify: the one question that WinRM answers without sign-in. Pure.

DMTF DSP0226 defines the question; [MS-WSMV] 3.1.4.1.23 the header that makes Windows answer it to anybody. Without
sign-in Windows hides its version ("OS: 0.0.0 SP: 0.0"), so that this shows WinRM and its vendor, not Hyper-V.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_ENVELOPE = (
    b'<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"'
    b' xmlns:wsmid="http://schemas.dmtf.org/wbem/wsman/identity/1/wsmanidentity.xsd">'
    b"<s:Header/><s:Body><wsmid:Identify/></s:Body></s:Envelope>"
)
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})[^\r\n]*")
LONGEST = 32 << 10  # an answer has about 700 bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """status: of HTTP. server: its Server header. vendor and version are empty where it was no Identify response."""

    status: int
    server: str
    vendor: str
    version: str
    sign_in: tuple[str, ...]

    @property
    def identified(self) -> bool:
        return bool(self.vendor or self.version)


def request(host: str) -> bytes:
    """host: as in a URL, with port."""
    head = (
        f"POST /wsman HTTP/1.1\r\nHost: {host}\r\nUser-Agent: Leeward\r\nConnection: close\r\n"
        "Content-Type: application/soap+xml;charset=UTF-8\r\nWSMANIDENTIFY: unauthenticated\r\n"
        f"Content-Length: {len(_ENVELOPE)}\r\n\r\n"
    )
    return head.encode() + _ENVELOPE


def is_whole(data: bytes) -> bool:
    """Whether nothing more need be waited for. (A chunked answer counts as whole when the envelope has ended.)"""
    head, separator, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length:[ \t]*([0-9]{1,9})[ \t]*\r", head + b"\r")
    if separator and length:
        return len(body) >= int(length[1])
    return bool(separator) and re.search(rb"</[\w.-]*:?Envelope>", body) is not None


def answer(data: bytes) -> Answer | None:
    """What came back, whole or cut off; None when it is not HTTP.

    Looked at with patterns, not with an XML parser: these bytes come from a stranger.
    """
    head, _, body = data.partition(b"\r\n\r\n")
    status = _STATUS.match(head)
    if status is None:
        return None
    return Answer(
        status=int(status[1]),
        server=_header(head, b"server"),
        vendor=_element(body, b"ProductVendor"),
        version=_element(body, b"ProductVersion"),
        sign_in=tuple(
            scheme.decode() for scheme in re.findall(rb"(?i)\r\nwww-authenticate:[ \t]*([a-z0-9-]{1,20})", head)
        ),
    )


def _header(head: bytes, name: bytes) -> str:
    found = re.search(rb"(?i)\r\n" + name + rb":[ \t]*([^\r\n]{0,200})", head)
    return found[1].decode("latin-1").strip() if found else ""


def _element(body: bytes, name: bytes) -> str:
    # Windows may answer in UTF-16, as its clients ask in it.
    flat = body.replace(b"\0", b"")
    found = re.search(rb"<(?:[\w.-]{1,40}:)?" + name + rb"(?:\s[^<>]{0,200})?>([^<]{0,200})<", flat)
    return found[1].decode("utf-8", errors="replace").strip() if found else ""
