"""Enrolment: one token, one host; everything else is refused with a reason."""

import json
import os
import socket
import stat
import threading
from dataclasses import replace

import pytest
from tests.console.stand import Host, until

from leeward.agent import enrolment
from leeward.agent.channel import Channel, Refusal
from leeward.agent.identity import (
    authority_context,
    load_identity,
    new_key,
    save_identity,
    signing_request,
    tls_context,
)
from leeward.console.agent_views import TokenRequest
from leeward.domain.errors import BadInput, NotFound, Refused, Unavailable
from leeward.wire.polls import Enrol


def send(stand, path, body):
    channel = Channel(stand.address, lambda: authority_context(stand.authority.ca_pem.decode()))
    try:
        return channel.ask("POST", path, body, 10)
    finally:
        channel.close()


def ask(stand, token, **changes):
    key = new_key()
    good = Enrol(secret=token.secret.hex(), request=signing_request(key), name="office")
    return send(stand, "/agent/enrol", json.dumps({**good.model_dump(), **changes}).encode())


def test_a_token_makes_an_identity_that_only_we_can_read(stand, make_host):
    host = make_host()
    made = host.enrol(stand.token())
    assert load_identity(host.folder) == made
    assert made.fingerprint == stand.authority.fingerprint
    files = list((host.folder / "identity").iterdir())
    assert [path.name for path in files] == ["identity.json"], "nothing else keeps the key"
    assert stat.S_IMODE(files[0].stat().st_mode) == 0o600
    key = made.key.encode()
    for folder, _, names in os.walk(stand.folder):
        for name in names:
            with open(os.path.join(folder, name), "rb") as file:
                assert key[40:120] not in file.read(), "the key never leaves the host"


def test_a_token_is_kept_only_as_a_hash(stand):
    token = stand.token()
    content = b"".join(path.read_bytes() for path in stand.folder.glob("console.db*"))
    assert token.secret_hash.encode() in content
    assert token.secret not in content
    assert token.secret.hex().encode() not in content


def test_a_token_is_for_one_host(stand, make_host):
    token = stand.token()
    make_host("office").enrol(token)
    with pytest.raises(Refused, match=r"used already.*by office"):
        make_host("branch").enrol(token)
    assert [link.name for link in stand.agents.links()] == ["office"]


def test_two_hosts_at_the_same_moment_get_one_identity(stand):
    token = stand.token()
    outcomes = []

    def try_it(name):
        try:
            outcomes.append(ask(stand, token, name=name))
        except Refused:
            outcomes.append(None)

    threads = [threading.Thread(target=try_it, args=(f"host-{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(outcome is not None for outcome in outcomes) == 1
    assert len(stand.agents.links()) == 1


def test_a_lost_answer_can_be_asked_for_again(stand, make_host, monkeypatch):
    host, token = make_host(), stand.token()
    monkeypatch.setattr(enrolment, "save_identity", lambda *_: (_ for _ in ()).throw(OSError("power cut")))
    with pytest.raises(OSError, match="power cut"):
        host.enrol(token)
    monkeypatch.undo()
    with pytest.raises(NotFound):
        load_identity(host.folder)
    assert host.enrol(token).agent_id == stand.link.id
    host.start()
    host.connected()


def test_a_renewal_does_not_undo_a_new_enrolment(stand, make_host):
    host = make_host()
    first = host.enrol(stand.token())
    second = host.enrol(stand.token(name="office"))
    stand.agents._remotes[first.agent_id] = stand.link  # as if the former one were still let in
    channel = Channel(stand.address, lambda: tls_context(first))
    with pytest.raises(Unavailable, match="enrolled anew"):
        enrolment.renew(host.folder, first, channel)
    channel.close()
    assert load_identity(host.folder) == second


def test_an_expired_token_is_refused(stand, make_host, monkeypatch):
    token = stand.token(expires_s=60)
    monkeypatch.setattr("leeward.state.agents.now", lambda: "2100-01-01T00:00:00Z")
    with pytest.raises(Refused, match="expired"):
        make_host().enrol(token)


def test_an_unknown_token_is_refused(stand, make_host):
    with pytest.raises(Refused, match="does not know this token"):
        make_host().enrol(replace(stand.token(), secret=bytes(16)))


def test_the_secret_is_not_told_to_another_console(stand, make_stand, make_host):
    impostor = make_stand("impostor")
    token = replace(stand.token(), address=impostor.address)
    with pytest.raises(Refused, match="not the console that made the token"):
        make_host().enrol(token)
    # The token is still good, since nobody has seen it.
    assert make_host("second").enrol(replace(token, address=stand.address))


def test_a_console_that_is_not_there_is_told(stand, make_host):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(Unavailable, match="cannot be reached"):
        make_host().enrol(replace(stand.token(), address=f"https://127.0.0.1:{port}"))


def test_a_taken_name_is_refused_until_the_token_says_so(stand, make_host):
    first = make_host("office").enrol(stand.token())
    with pytest.raises(Refused, match="an agent of this name exists"):
        make_host("other").enrol(stand.token(), "office")
    second = make_host("third").enrol(stand.token(name="office"), "whatever")
    assert second.name == "office"
    assert [view.revoked[:8] for view in stand.agents.views()] == ["", "replaced"]
    assert first.agent_id != second.agent_id


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"request": "no request"}, "cannot be read"),
        ({"secret": "xyz"}, "damaged"),
        ({"name": "a\x1b[2Jb"}, "cannot be an agent's name"),
        ({"name": ""}, "cannot be read"),
        ({"extra": 1}, "cannot be read"),
        ({"version": 99}, "version 99"),
        ({"request": "x" * 40_000}, "larger than"),
    ],
)
def test_a_bad_request_is_refused_and_uses_nothing_up(stand, changes, why):
    token = stand.token()
    with pytest.raises(Refusal, match=why):
        ask(stand, token, **changes)
    assert ask(stand, token)


def test_without_a_certificate_only_enrolment_answers(stand):
    for path in ("/agent/poll", "/agent/tell", "/agent/renew"):
        with pytest.raises(Refusal, match="a certificate is needed"):
            send(stand, path, b"{}")
    with pytest.raises(Refusal, match="nothing here"):
        send(stand, "/api/v1/agents", b"{}")


def test_tokens_have_limits(stand):
    for request in ({"expires_s": 0}, {"expires_s": 31 * 86_400}, {"name": "a\nb"}, {"name": "a/b"}):
        with pytest.raises(BadInput):
            stand.agents.new_token(TokenRequest(**request))


def test_a_console_that_does_not_listen_makes_no_token(stand):
    stand.agents._address = ""
    with pytest.raises(Refused, match="does not listen"):
        stand.agents.new_token(TokenRequest())


def test_revoking_is_told_once(stand, make_host):
    made = make_host().enrol(stand.token())
    with pytest.raises(NotFound):
        stand.agents.revoke("nobody")
    assert "revoked by the operator" in stand.agents.revoke(made.agent_id).revoked
    with pytest.raises(Refused, match="already"):
        stand.agents.revoke("office")
    # Also after a restart of the console, and with the token that it came with.
    stand.close()
    stand.open()
    assert stand.agents.links() == []
    assert [view.name for view in stand.agents.views()] == ["office"]


def test_two_agents_with_a_host_of_one_name_are_pointed_out(stand, make_host, tmp_path):
    first, second = make_host(), Host(tmp_path / "second", "office")
    first.enrol(stand.token())
    second.enrol(stand.token(name="branch"))
    try:
        for host in (first, second):
            host.start()
        until(lambda: all(link.hosts() for link in stand.agents.links()))
        assert all("same name (office)" in view.trouble for view in stand.agents.views())
    finally:
        second.stop()


def test_history_tells_of_agents(stand, make_host):
    make_host().enrol(stand.token())
    stand.agents.revoke("office")
    told = [event["what"] for event in stand.database.events(10)]
    assert told == ["agent revoked", "agent enrolled", "agent token made"]


def test_an_identity_of_another_user_is_not_called_damaged(stand, make_host, monkeypatch):
    host = make_host()
    identity = host.enrol(stand.token())

    def denied(_):
        raise PermissionError

    monkeypatch.setattr("pathlib.Path.read_bytes", denied)
    with pytest.raises(BadInput, match="may not be read"):
        load_identity(host.folder)
    monkeypatch.undo()
    save_identity(host.folder, identity)
    until(lambda: load_identity(host.folder) == identity)
