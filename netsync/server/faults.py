"""What a client is told of what went wrong here, and what the log is."""

from __future__ import annotations

from netsync.errors import NetsyncError, ProtocolError, principal, unmapped


class OurFaultError(ProtocolError):
    """A defect on this side, as the client is told of it."""


def as_netsync_error(error: BaseException) -> NetsyncError:
    """Return what to tell the client: the error that matters, or that we are at fault."""
    if isinstance(error, BaseExceptionGroup):
        error = principal(error) or error
    if isinstance(error, NetsyncError):
        return error
    if isinstance(error, OSError):
        return unmapped(error)
    return OurFaultError("internal error of the server, see its log", op="serve")
