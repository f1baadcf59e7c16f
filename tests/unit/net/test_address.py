"""Addresses as people write them."""

from __future__ import annotations

import pytest

from netsync.errors import UsageError
from netsync.net.address import Address, parse_address


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("standby1:7873", "standby1", 7873),
        ("standby1", "standby1", 7873),
        ("127.0.0.1:0", "127.0.0.1", 0),
        ("[::1]:80", "::1", 80),
        ("[::1]", "::1", 7873),
        ("[fe80::1%eth0]:1", "fe80::1%eth0", 1),
        (":80", "", 80),
        ("*:80", "", 80),
    ],
)
def test_host_and_port_are_read(text: str, host: str, port: int) -> None:
    assert parse_address(text) == Address(host, port)


@pytest.mark.parametrize(
    "text", ["::1", "a:b", "a:70000", "a:-1", "[::1", "::1]:5", "a:1:2", "a:٣"]
)
def test_anything_else_is_refused_by_name(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_address(text)
    assert text in str(caught.value)
    assert caught.value.exit_code == 1


def test_a_port_can_be_required() -> None:
    with pytest.raises(UsageError, match="port is missing"):
        parse_address("a", default_port=None)


@pytest.mark.parametrize("text", ["[::1]:80", "a.example:7873"])
def test_addresses_are_shown_as_they_are_written(text: str) -> None:
    assert str(parse_address(text)) == text
