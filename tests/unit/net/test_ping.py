"""Pings: the right URL, and every failure one error within its time."""

from __future__ import annotations

import pytest
import trio

from netsync.errors import NetworkError, UsageError
from netsync.net.ping import check_url, ping, url_for
from tests.support.monitor import monitoring


@pytest.mark.parametrize(("url", "phase", "result"), [
    ("https://h/x", "", "https://h/x"),
    ("https://h/x", "start", "https://h/x/start"),
    ("https://h/x/", "fail", "https://h/x/fail"),
    ("http://h:8/x?key=1", "fail", "http://h:8/x/fail?key=1"),
])  # fmt: skip
def test_a_phase_is_the_last_part_of_the_path(url: str, phase: str, result: str) -> None:
    assert url_for(url, phase) == result


@pytest.mark.parametrize(
    "url", ["", "h/x", "ftp://h/x", "file:///etc/passwd", "http://", "http://h:x/", "http://h/ä b"]
)
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="is no URL"):
        check_url(url)


async def test_a_ping_arrives() -> None:
    with monitoring() as monitor:
        check_url(monitor.url)
        await trio.to_thread.run_sync(ping, url_for(monitor.url, "start"))
        assert monitor.paths == ["/ping/start"]


async def test_an_answer_that_is_no_success_is_an_error() -> None:
    with monitoring(status=503) as monitor, pytest.raises(NetworkError, match="answer was 503"):
        await trio.to_thread.run_sync(ping, monitor.url)


async def test_nobody_there_is_an_error() -> None:
    with monitoring() as monitor:
        url = monitor.url
    with pytest.raises(NetworkError, match="connection refused"):
        await trio.to_thread.run_sync(ping, url)
