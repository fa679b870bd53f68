"""The console's authority: made once, private, and issuing only what it should."""

from __future__ import annotations

import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import NameOID

from leeward.console.authority import Authority, read_peer
from leeward.domain.errors import BadInput, LeewardError


def _request(key, name="whatever the host says"):
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    # What a request asks for beyond its key must not get into the certificate.
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return builder.sign(key, algorithm).public_bytes(serialization.Encoding.PEM)


def _der(pem):
    return x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)


def test_it_is_made_once_and_kept_private(tmp_path):
    folder = tmp_path / "authority"
    first = Authority.open(folder)
    again = Authority.open(folder)
    assert again.ca_pem == first.ca_pem
    assert again.fingerprint == first.fingerprint
    first.server_files(["localhost"])
    for path in folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert not list(folder.glob(".*")), "temporary files are left"


def test_the_fingerprint_is_the_one_that_openssl_shows(tmp_path):
    authority = Authority.open(tmp_path)
    shown = subprocess.run(
        ["openssl", "x509", "-noout", "-fingerprint", "-sha256"],
        input=authority.ca_pem,
        capture_output=True,
        check=True,
    )
    assert shown.stdout.decode().strip().split("=")[1] == authority.fingerprint


def test_two_processes_at_once_agree_on_one_authority(tmp_path):
    code = "import sys; from pathlib import Path; from leeward.console.authority import Authority;" + (
        "print(Authority.open(Path(sys.argv[1])).fingerprint)"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "a")], stdout=subprocess.PIPE) for _ in range(4)
    ]
    assert len({process.communicate()[0] for process in started}) == 1
    assert all(process.returncode == 0 for process in started)


def test_a_damaged_file_is_told_and_never_replaced(tmp_path):
    Authority.open(tmp_path)
    path = tmp_path / "authority.pem"
    path.write_bytes(path.read_bytes()[:150])
    with pytest.raises(BadInput, match="damaged"):
        Authority.open(tmp_path)
    assert path.stat().st_size == 150


def test_an_unusable_folder_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LeewardError, match="cannot be read or made"):
        Authority.open(tmp_path / "file" / "authority")


def test_server_certificates_change_with_the_names_and_with_age_but_keep_their_key(tmp_path, monkeypatch):
    authority = Authority.open(tmp_path)
    path, key = authority.server_files(["console.example", "192.0.2.7", "::1"])
    first, first_key = path.read_bytes(), key.read_bytes()
    authority.server_files(["::1", "192.0.2.7", "console.example"])
    assert path.read_bytes() == first, "the same names in another order"
    authority.server_files(["other.example"])
    second = path.read_bytes()
    assert second != first
    names = x509.load_pem_x509_certificate(second).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.value.get_values_for_type(x509.DNSName) == ["other.example"]

    class Later(datetime):
        @classmethod
        def now(cls, zone=None):
            return datetime.now(zone) + timedelta(days=300)

    monkeypatch.setattr("leeward.console.authority.datetime", Later)
    authority.server_files(["other.example"])
    assert path.read_bytes() != second, "near its end"
    assert key.read_bytes() == first_key


def test_listeners_do_not_take_each_others_certificates(tmp_path):
    authority = Authority.open(tmp_path)
    first, _ = authority.server_files(["a.example"])
    before = first.read_bytes()
    second, _ = authority.server_files(["b.example"], "agents")
    assert second != first
    assert first.read_bytes() == before


def test_another_authoritys_server_certificate_is_not_reused(tmp_path):
    path, _ = Authority.open(tmp_path).server_files(["localhost"])
    before = path.read_bytes()
    (tmp_path / "authority.pem").unlink()
    Authority.open(tmp_path).server_files(["localhost"])
    assert path.read_bytes() != before


@pytest.mark.parametrize("names", [[], ["exa mple"], ["x" * 70]])
def test_names_that_cannot_be_certified_are_refused(tmp_path, names):
    with pytest.raises(BadInput):
        Authority.open(tmp_path).server_files(names)


def test_an_agents_certificate_takes_nothing_from_the_request_but_the_key(tmp_path):
    authority = Authority.open(tmp_path)
    key = ec.generate_private_key(ec.SECP256R1())
    pem = authority.issue_agent(_request(key, "leeward console"), "agent-7", days=9)
    made = x509.load_pem_x509_certificate(pem)
    assert made.public_key() == key.public_key()
    assert made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    peer = read_peer(_der(pem))
    assert peer.agent_id == "agent-7"
    now = datetime.now(UTC)
    assert not peer.expired(now)
    assert peer.expired(now + timedelta(days=9, minutes=1))
    assert not peer.due(now + timedelta(days=5.9))
    assert peer.due(now + timedelta(days=6.1))


def test_a_listeners_certificate_is_no_agents(tmp_path):
    path, _ = Authority.open(tmp_path).server_files(["localhost"])
    with pytest.raises(BadInput, match="not an agent"):
        read_peer(_der(path.read_bytes()))


def test_requests_that_cannot_be_used_are_refused(tmp_path):
    authority = Authority.open(tmp_path)
    good = _request(ec.generate_private_key(ec.SECP256R1()))
    other = _request(ec.generate_private_key(ec.SECP256R1()))
    body = x509.load_pem_x509_csr(good).public_bytes(serialization.Encoding.DER)
    tail = x509.load_pem_x509_csr(other).public_bytes(serialization.Encoding.DER)[-20:]
    forged = x509.load_der_x509_csr(body[:-20] + tail).public_bytes(serialization.Encoding.PEM)
    for request in (
        b"",
        b"garbage",
        forged,
        _request(ec.generate_private_key(ec.SECP384R1())),
        _request(ed25519.Ed25519PrivateKey.generate()),
    ):
        with pytest.raises(BadInput):
            authority.issue_agent(request, "agent-7")
