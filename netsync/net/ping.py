"""Asking for a URL, so that a monitor elsewhere knows what a job does.

``URL/start`` when a run begins, ``URL`` when it ended well, ``URL/fail`` when it did not: what
healthchecks.io and its like expect, who raise the alarm when nothing comes. Blocks for at most
about ``SECONDS`` a step, and belongs into a worker thread.
"""

from __future__ import annotations

import http.client
import urllib.error
import urllib.parse
import urllib.request
from typing import Final

from netsync import __version__
from netsync.errors import NetworkError, UsageError, reason

SECONDS: Final = 10.0
"""How long each step of a ping may take: connecting, and every part of the answer."""
_READ: Final = 4096
"""Bytes of an answer that are read, so that the other end need not see a reset."""


def check_url(url: str) -> None:
    """Raise ``UsageError`` unless ``url`` is one that can be asked for."""
    try:
        parts = urllib.parse.urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port
    except ValueError:
        usable = False
    if not usable or not url.isascii() or any(character <= " " for character in url):
        raise UsageError("is no URL", op="read", where=url, hint="write https://HOST/PATH")


def url_for(url: str, phase: str) -> str:
    """Return ``url`` with ``phase`` as the last part of its path; none for the end of a run."""
    parts = urllib.parse.urlsplit(url)
    path = parts.path.rstrip("/") + f"/{phase}" if phase else parts.path
    return urllib.parse.urlunsplit(parts._replace(path=path))


def ping(url: str) -> None:
    """Ask for ``url``. Raises ``NetworkError``."""
    request = urllib.request.Request(  # noqa: S310 - check_url has seen the scheme
        url, headers={"User-Agent": f"netsync/{__version__}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as response:  # noqa: S310 - as above
            response.read(_READ)
    except urllib.error.HTTPError as error:
        with error:  # it holds the connection
            why = f"the answer was {error.code} {error.reason}"
        raise NetworkError(why, op="ping", where=url) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NetworkError(_words(error), op="ping", where=url) from error


def _words(error: Exception) -> str:
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, OSError):
        return reason(error.reason)
    return str(error) or type(error).__name__
