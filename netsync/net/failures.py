"""What went wrong on a connection, in our own words: the table of foreign errors.

Three kinds meet here. The system's errors mean that the network failed. OpenSSL's verification
errors mean that we reject the peer, and its alerts that the peer rejects us: both are refusals that
no retry will cure. Any other TLS error means that the peer does not speak netsync's protocol.
"""

from __future__ import annotations

import errno
import re
import socket
import ssl
from typing import Final

import trio

from netsync.errors import (
    ConnectTimeoutError,
    NetsyncError,
    NetworkError,
    ProtocolError,
    RefusedError,
    StalledError,
    reason,
)

NOT_NETSYNC: Final = "the peer is not a netsync server"

_CONNECT_HINTS: Final = {
    errno.ECONNREFUSED: "is netsync serve running there, on this port?",
    errno.EHOSTUNREACH: "check the address and the routes to it",
    errno.ENETUNREACH: "check the address and the routes to it",
    errno.EACCES: "a firewall here forbids it",
    errno.EPERM: "a firewall here forbids it",
}

_LISTEN_HINTS: Final = {
    errno.EADDRINUSE: "another program listens there: stop it or choose another port",
    errno.EACCES: "ports below 1024 need root or CAP_NET_BIND_SERVICE",
    errno.EADDRNOTAVAIL: "this host does not have that address",
}

_VERIFY_WORDS: Final = {
    2: "it was issued by an unknown CA",
    7: "its signature is wrong",
    9: "it is not valid yet",
    10: "it has expired",
    18: "it is self-signed",
    19: "it was issued by an unknown CA",
    20: "it was issued by an unknown CA",
    21: "it was issued by an unknown CA",
    23: "it is revoked",
    26: "it was not issued for this purpose",
    62: "it was issued for another host name",
    64: "it was issued for another address",
}
"""OpenSSL's verification codes (X509_V_ERR_...) that happen in practice."""

_VERIFY_HINTS: Final = {
    9: "compare the clocks of both hosts",
    10: "renew it on the issuing host: netsync cert renew",
    26: "only certificates issued with --host can serve",
    62: "dial a name that netsync cert show lists there, or issue it again with --host",
    64: "dial a name that netsync cert show lists there, or issue it again with --host",
}
_OTHER_CA_HINT: Final = "both hosts need certificates of the same CA, and its ca.pem"

_ALERT: Final = re.compile(r"ALERT_([A-Z_]+)")
_ALERT_WORDS: Final = {
    "CERTIFICATE_REQUIRED": "it wants a certificate and got none",
    "UNKNOWN_CA": "our certificate was issued by a CA it does not know",
    "CERTIFICATE_EXPIRED": "our certificate has expired, or its clock is wrong",
    "CERTIFICATE_REVOKED": "our certificate is revoked",
    "BAD_CERTIFICATE": "our certificate is not valid there",
    "UNSUPPORTED_CERTIFICATE": "our certificate was not issued for this purpose",
    "CERTIFICATE_UNKNOWN": "our certificate was not accepted there",
    "ACCESS_DENIED": "access denied",
    "DECRYPT_ERROR": "our certificate's signature is wrong",
}
"""TLS alerts by which a peer rejects our certificate, without OpenSSL's changing prefixes."""


_CUT_HINT: Final = "run again; what was finished stays"


def connect_error(error: OSError | UnicodeError, address: object) -> NetsyncError:
    """Say why no TCP connection to ``address`` came about."""
    where = str(address)
    if isinstance(error, socket.gaierror | UnicodeError):
        return NetworkError(
            "name not found", op="connect to", where=where, hint="check the name and the DNS"
        )
    first = _first_cause(error)
    if first.errno == errno.ETIMEDOUT:
        return ConnectTimeoutError("no answer", op="connect to", where=where)
    hint = _CONNECT_HINTS.get(first.errno or 0, "")
    return NetworkError(reason(first), op="connect to", where=where, hint=hint)


def listen_error(error: OSError, address: object) -> NetsyncError:
    """Say why ``address`` cannot be listened on."""
    if isinstance(error, socket.gaierror):
        return NetworkError("name not found", op="listen on", where=str(address))
    hint = _LISTEN_HINTS.get(error.errno or 0, "")
    return NetworkError(reason(error), op="listen on", where=str(address), hint=hint)


def handshake_error(error: OSError, address: object, *, accepting: bool) -> NetsyncError:
    """Say why the handshake with ``address`` failed, from the side that saw ``error``."""
    op, where = ("accept", str(address)) if accepting else ("connect to", str(address))
    if not isinstance(error, ssl.SSLError):
        return NetworkError(reason(error), op=op, where=where)
    if isinstance(error, ssl.SSLCertVerificationError):
        return _rejected_by_us(error, op, where)
    if _reason(error).startswith("PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        return RefusedError("the client showed no certificate", op=op, where=where)
    alert = _alert(error)
    if alert in _ALERT_WORDS:
        return _rejected_by_peer(alert, op, where)
    if accepting:
        return ProtocolError(f"not a netsync client: {_plain(error)}", op=op, where=where)
    hint = "check host and port"
    return ProtocolError(f"{NOT_NETSYNC}: {_plain(error)}", op=op, where=where, hint=hint)


def map_stream_error(
    error: BaseException, address: object, *, welcomed: bool = True
) -> NetsyncError:
    """Say why a send to or a receive from ``address`` failed.

    With TLS 1.3 this is where a client learns that the server rejected its certificate. Until the
    server has ``welcomed`` us, a cut without a reason may be just that, and the hint says so.
    """
    if isinstance(error, NetsyncError):
        return error
    cause = error.__cause__ if isinstance(error, trio.BrokenResourceError) else error
    op, where = "talk to", str(address)
    if isinstance(cause, ssl.SSLError) and (alert := _alert(cause)) in _ALERT_WORDS:
        return _rejected_by_peer(alert, op, where)
    if isinstance(cause, OSError) and cause.errno == errno.ETIMEDOUT:
        return StalledError("it has stopped answering", op=op, where=where)
    if isinstance(cause, ssl.SSLEOFError) or not isinstance(cause, OSError):
        why = "the connection was cut"
    elif isinstance(cause, ssl.SSLError):
        why = f"TLS failed: {_plain(cause)}"
    else:
        why = reason(cause)
    hint = (
        _CUT_HINT if welcomed else "its log says why, if it was this host's certificate or rights"
    )
    return NetworkError(why, op=op, where=where, hint=hint)


def _rejected_by_us(error: ssl.SSLCertVerificationError, op: str, where: str) -> RefusedError:
    words = _VERIFY_WORDS.get(error.verify_code, str(error.verify_message))
    hint = _VERIFY_HINTS.get(error.verify_code, _OTHER_CA_HINT)
    return RefusedError(
        f"the peer's certificate is rejected: {words}", op=op, where=where, hint=hint
    )


def _rejected_by_peer(alert: str, op: str, where: str) -> RefusedError:
    return RefusedError(
        f"the peer rejects us: {_ALERT_WORDS[alert]}",
        op=op,
        where=where,
        hint="netsync cert show here, and the log there, say more",
    )


def _reason(error: ssl.SSLError) -> str:
    """Return OpenSSL's name for ``error``; for codes Python does not know, made from its words."""
    text: str = getattr(error, "reason", None) or str(error)
    return text.upper().replace(" ", "_")


def _alert(error: ssl.SSLError) -> str:
    match = _ALERT.search(_reason(error))
    return match[1].strip("_") if match else ""


def _plain(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLEOFError):
        return "it hung up during the handshake"
    name = _reason(error)
    if name in {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG"}:
        return "it does not speak TLS"
    if "PROTOCOL" in name or "VERSION" in name:
        return "it does not speak TLS 1.3"
    return name.replace("_", " ").lower()


def _first_cause(error: OSError) -> OSError:
    """Return the system's error behind trio's summary of all addresses tried."""
    if error.errno is None and isinstance(error.__cause__, ExceptionGroup):
        for each in error.__cause__.exceptions:
            if isinstance(each, OSError):
                return each
    return error
