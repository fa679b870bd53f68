"""One open connection to a stranger, and what was learned on it so far.

Whoever talks bounds the time and what is read. The stream beneath stops reading at 64 KiB, so that a flood stays in
the kernel.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import replace
from typing import Any

from cryptography import x509

from leeward.network.discovery.signs import Sign, Speech, printable


class Talk:
    """The sign grows with every answer, so that what was learned outlives a connection that breaks or stalls."""

    def __init__(self, sock: socket.socket, sign: Sign, host: str) -> None:
        """host: as in a URL, with port."""
        self.sign = sign
        self.host = host
        self._sock = sock
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    def learn(self, **changes: Any) -> None:
        """Fields of Sign."""
        self.sign = replace(self.sign, **changes)

    def note(self, words: str | bytes) -> None:
        """What happened, unless something better is known already."""
        if not self.sign.words:
            self.learn(words=printable(words))

    def learn_other(self, data: bytes) -> None:
        """These bytes are not what belongs behind the door; none are a connection closed at once."""
        if data:
            self.learn(speech=Speech.OTHER, words=printable(b"not what belongs there: " + data[:60]))
        else:
            self.note("it closed the connection")

    async def open(self) -> None:
        self._streams = await asyncio.open_connection(sock=self._sock)

    async def open_tls(self) -> None:
        """Handshake with whatever certificate; learns whose it is. Raises ssl.SSLError for what is no TLS."""
        # Not by open_connection at once: given up before its first step, in Python 3.11 it leaves a transport on a
        # socket that is closed, and whose number the next connection gets.
        await self.open()
        try:
            await self._writer.start_tls(_any_tls(), server_hostname="")
        except ssl.SSLError as error:
            if "ALERT" in (error.reason or ""):  # only a TLS server declines in TLS's own words
                self.learn(speech=Speech.TLS, words="it declined the handshake")
            raise
        self.learn(speech=Speech.TLS, certificate=_subject(self._writer.get_extra_info("ssl_object")))

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def exactly(self, count: int) -> bytes:
        """Raises EOFError when the other side closes before."""
        return await self._reader.readexactly(count)

    async def some(self, count: int) -> bytes:
        """At most this many bytes, as soon as there are any; none at the end."""
        return await self._reader.read(count)

    def close(self) -> None:
        if self._streams is None:
            self._sock.close()
        else:
            # Not close(): that would wait until a stranger has taken what we wrote.
            self._writer.transport.abort()

    @property
    def _reader(self) -> asyncio.StreamReader:
        assert self._streams is not None
        return self._streams[0]

    @property
    def _writer(self) -> asyncio.StreamWriter:
        assert self._streams is not None
        return self._streams[1]


def _any_tls() -> ssl.SSLContext:
    """Nothing secret is sent, and who answers is only shown, not trusted: so old hosts may answer as they can."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    return context


def _subject(tls: ssl.SSLObject) -> str:
    """Whose certificate it is, "" when that cannot be read."""
    try:
        raw = tls.getpeercert(binary_form=True)
        return printable(x509.load_der_x509_certificate(raw or b"").subject.rfc4514_string())
    except Exception:  # the parser has several kinds of error for a stranger's bytes, without a common base
        return ""
