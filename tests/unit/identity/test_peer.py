"""Names of peers, after a handshake in memory."""

from __future__ import annotations

import ssl
from dataclasses import replace
from typing import Any

import pytest

from netsync.errors import RefusedError
from netsync.identity.contexts import Credentials, client_context, server_context
from netsync.identity.peer import peer_identity
from tests.support.certificates import certificates


def shaken(client: Credentials) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Return (server's, client's) end of a finished handshake."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context(certificates().server).wrap_bio(to_server, to_client, server_side=True)
    connecting = client_context(client).wrap_bio(to_client, to_server, server_hostname="localhost")
    for side in (connecting, server):
        with pytest.raises(ssl.SSLWantReadError):
            side.do_handshake()
    connecting.do_handshake()
    server.do_handshake()
    return server, connecting


def test_both_ends_learn_each_others_name_and_serial() -> None:
    made = certificates()
    at_server, at_client = shaken(made.client)
    assert peer_identity(at_server, made.server) == ("primary1", made.client.serial)
    assert peer_identity(at_client, made.client) == ("standby1", made.server.serial)


def test_the_connection_is_tls_1_3_without_tickets() -> None:
    at_server, at_client = shaken(certificates().client)
    assert at_server.version() == at_client.version() == "TLSv1.3"
    assert server_context(certificates().server).num_tickets == 0


def test_either_end_refuses_what_its_own_file_revokes() -> None:
    made = certificates()
    at_server, at_client = shaken(made.client)
    server = replace(made.server, revoked=frozenset({made.client.serial}))
    with pytest.raises(RefusedError, match=r"primary1.*revoked") as caught:
        peer_identity(at_server, server)
    assert caught.value.exit_code == 5
    assert f"{made.client.serial:x}" in str(caught.value)
    client = replace(made.client, revoked=frozenset({made.server.serial}))
    with pytest.raises(RefusedError, match=r"standby1.*revoked"):
        peer_identity(at_client, client)


class FakeTls(ssl.SSLObject):
    """A finished handshake with a peer whose certificate says what a test wants."""

    def __new__(cls, *uris: str) -> FakeTls:
        return object.__new__(cls)

    def __init__(self, *uris: str) -> None:
        self.uris = uris

    def getpeercert(self, binary_form: bool = False) -> Any:
        names = tuple(("URI", uri) for uri in self.uris)
        return {"subjectAltName": (("DNS", "netsync://c"), *names), "serialNumber": "0A"}


@pytest.mark.parametrize(
    "uris",
    [
        (),
        ("netsync://a", "netsync://b"),
        ("netsync://a b",),
        ("https://example.org",),
        ("netsync://a\0.example",),
    ],
)
def test_a_certificate_with_no_name_or_two_is_refused(uris: tuple[str, ...]) -> None:
    with pytest.raises(RefusedError, match="exactly one") as caught:
        peer_identity(FakeTls(*uris), certificates().server)
    assert caught.value.exit_code == 5


def test_uris_of_others_do_not_matter() -> None:
    tls = FakeTls("https://example.org", "netsync://a")
    assert peer_identity(tls, certificates().server) == ("a", 10)
