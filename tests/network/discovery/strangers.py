"""Servers for scans to meet: a Windows look-alike, and machines that misbehave. All of them really listen."""

import asyncio
import contextlib
import datetime
import os
import socket
import ssl
import struct
import threading

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

IDENTIFY = b"<wsmid:Identify/>"
# Built from [MS-WSMV], DMTF DSP0226 and what Windows' documentation shows for a question without sign-in: no Windows
# was at hand to compare with.
IDENTIFY_RESPONSE = (
    b'<s:Envelope xml:lang="" xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Header></s:Header><s:Body>'
    b'<wsmid:IdentifyResponse xmlns:wsmid="http://schemas.dmtf.org/wbem/wsman/identity/1/wsmanidentity.xsd">'
    b"<wsmid:ProtocolVersion>http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd</wsmid:ProtocolVersion>"
    b"<wsmid:ProductVendor>Microsoft Corporation</wsmid:ProductVendor>"
    b"<wsmid:ProductVersion>OS: 0.0.0 SP: 0.0 Stack: 3.0</wsmid:ProductVersion>"
    b"</wsmid:IdentifyResponse></s:Body></s:Envelope>"
)


class Strangers:
    """An event loop in a thread that serves on many sockets; close() ends it and everything on it."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.servers = []
        self.now = self.most = self.total = 0

    def add(self, handle, sock=None, tls=None):
        """Serve `handle(reader, writer)` on the socket, or on a free loopback port; returns the port."""
        if sock is None:
            sock = socket.socket()
            sock.bind(("127.0.0.1", 0))

        async def counted(reader, writer):
            self.now += 1
            self.total += 1
            self.most = max(self.most, self.now)
            try:
                with contextlib.suppress(OSError, EOFError):
                    await handle(reader, writer)
            finally:
                self.now -= 1
                writer.transport.abort()

        async def start():
            return await asyncio.start_server(counted, sock=sock, ssl=tls)

        self.servers.append(asyncio.run_coroutine_threadsafe(start(), self.loop).result(5))
        return sock.getsockname()[1]

    def close(self):
        async def end():
            for server in self.servers:
                server.close()
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)
        self.loop.close()


# --- those who keep to a protocol ---------------------------------------------------------------------


def says(data, then_wait=True):
    async def handle(reader, writer):
        writer.write(data)
        await writer.drain()
        if then_wait:
            await reader.read()

    return handle


async def mute(reader, writer):
    """As vmconnect's port, and as a tarpit."""
    await reader.read()


async def windows(reader, writer):
    """WinRM: Identify without sign-in is answered, all else wants sign-in."""
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    asked = lines[0] == "POST /wsman HTTP/1.1" and headers.get("wsmanidentify") == "unauthenticated"
    if asked and IDENTIFY in body and headers["content-type"].startswith("application/soap+xml"):
        writer.write(http_answer("200 OK", IDENTIFY_RESPONSE, "Content-Type: application/soap+xml;charset=UTF-8"))
    else:
        writer.write(http_answer("401 ", b"", "WWW-Authenticate: Negotiate", "WWW-Authenticate: Kerberos"))
    await writer.drain()


async def shy_windows(reader, writer):
    """WinRM that wants sign-in for everything."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(http_answer("401 ", b"", "WWW-Authenticate: Negotiate"))
    await writer.drain()


def http_answer(status, body, *headers, server="Microsoft-HTTPAPI/2.0"):
    lines = [f"HTTP/1.1 {status}", *headers, f"Server: {server}", f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def libvirt_reply(procedure, payload=b"", *, serial=None, status=0, kind=1, program=0x20008086):
    serial = procedure if serial is None else serial
    return struct.pack(">7I", 28 + len(payload), program, 1, procedure, kind, serial, status) + payload


# --- those who do not ---------------------------------------------------------------------------------


async def closes(reader, writer):
    """At once, in order."""
    writer.close()
    await writer.wait_closed()


async def resets(reader, writer):
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def floods(data):
    """Garbage without an end, as fast as it is taken."""

    async def handle(reader, writer):
        while not writer.transport.is_closing():
            writer.write(data * (65536 // len(data)))
            await writer.drain()
            await asyncio.sleep(0)  # behind TLS a lost connection is only noticed by a loop that gets its turn

    return handle


def drips(data):
    """A byte every 20 ms, for ever."""

    async def handle(reader, writer):
        while True:
            for byte in data:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.02)

    return handle


async def garbage(reader, writer):
    writer.write(os.urandom(5000))
    await writer.drain()
    await reader.read()


# --- certificates -------------------------------------------------------------------------------------


def make_certificate(folder, name, issuer=None):
    """(certificate file, key file, what signs others) of a server, self-signed without an issuer."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0] if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    certificate = builder.sign(issuer[1] if issuer else key, hashes.SHA256())
    files = folder / f"{name}.pem", folder / f"{name}.key"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return *files, (subject, key)


def server_tls(files):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files[0], files[1])
    return context
