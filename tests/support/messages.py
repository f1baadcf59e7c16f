"""Samples of every message, and the golden vectors made of them.

Run as a module, this prints the vectors of the protocol version under test. They are kept in
``tests/vectors``: when a test finds a difference, either the change of the wire was an accident,
or it is a new protocol version and gets a file of its own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from netsync import model
from netsync.operation import Level, Rename, Write
from netsync.wire import committing, fine, mirroring, reuse, watching
from netsync.wire import messages as m
from netsync.wire.codec import MESSAGES, encode
from netsync.wire.messages import Message
from netsync.wire.operations import pack

VECTORS = Path(__file__).parents[1] / "vectors" / f"protocol-{m.PROTOCOL}.json"

DIGEST = bytes(range(16))
LONG_DIGEST = bytes(range(32))

FILE = model.Entry(b"data\xff.bin", model.Kind.FILE, 0o4755, 1000, 100, 1 << 40, -1)
LINK = model.Entry(b"link", model.Kind.SYMLINK, 0o777, 0, 0, 0, 5, b"../else\nwhere")
DEVICE = model.Entry(b"null", model.Kind.CHARACTER, 0o666, 0, 0, 0, 5, b"", 0x103)
HASHED = model.Entry(b"h", model.Kind.FILE, 0o600, 2**32 - 2, 0, 3, 2**62, digest=LONG_DIGEST)
MARKED = model.Entry(b"marked", model.Kind.FILE, 0o640, 1, 1, 3, 9, xattrs=1)
UNKNOWN = model.Entry(b"unread", model.Kind.FILE, 0o640, 1, 1, 3, 9, xattrs=2**32 - 1)
XATTRS: tuple[model.Xattr, ...] = ((b"security.capability", b"\1\0"), (b"user.note", b""))
PROBLEM = model.Problem(b"a/b\xfe", "read", "permission denied")
VANISHED = model.Problem(b"gone", "read", "no such file or directory", vanished=True)

OPTIONS = model.Options(
    moves=(model.Move(b"a/b\xff", b"c"),),
    rules=(model.Rule(True, b"*.tmp"), model.Rule(False, b"/keep/**")),
    keep=model.Keep(owner=False, devices=False, acls=False),
    usermap=(model.IdRule(b"adm*", b"root"), model.IdRule(b"", b"7", 0, 99)),
    groupmap=(model.IdRule(b"*", b"staff"),),
    chmod=(model.ModeRule(True, False, 0o7777, 0o111, True),),
    checksum=True,
    modify_window=10**9,
    delete=True,
    max_delete=model.DeleteLimit(30, percent=True),
    backup_dir=b"old/\xff",
    block_size=4096,
    compress=3,
    rate=1 << 20,
)
REPORT = model.Report(
    files=model.Files(considered=5, created=2, failed=1, unchanged=2),
    bytes=model.Bytes(total=10, literal=4, matched=6, wire_sent=99, wire_received=1),
    durable=True,
    held="25 deletions",
    kernel="compiled",
    problems=(PROBLEM, VANISHED),
    problems_omitted=3,
    notices=("device nodes were left out",),
)

SAMPLES: dict[str, tuple[Message, bytes]] = {
    "ping": (m.Ping(), b""),
    "fault": (m.Fault(12, "häßlich", "receive", "host:7873", "look there"), b""),
    "fault, bare": (m.Fault(255, ""), b""),
    "hello": (m.Hello(1, "netsync 0.1", ["zstd", "future"], 60), b""),
    "welcome": (m.Welcome(1, "netsync 0.1", ["zstd"], "primary1"), b""),
    "bye": (m.Bye(), b""),
    "browse": (m.Browse("web", b"dir/\xff"), b""),
    "browsed": (m.Browsed([m.ModuleInfo("web", ["pull", "push"])], [FILE, LINK], True), b""),
    "open push": (m.Open(m.Direction.PUSH, [m.Place("web", b"a/")], OPTIONS, run=LONG_DIGEST), b""),
    "open pull": (
        m.Open(m.Direction.PULL, [m.Place("a", b""), m.Place("b", b"c")], model.Options()),
        b"",
    ),
    "open with more to come": (
        m.Open(
            m.Direction.PULL, [m.Place("a", b"")], model.Options(paths=(), changing="publish"), 2
        ),
        b"",
    ),
    "selection": (
        m.Selection([model.Rule(False, b"a\xff", 3)], [b"dir/", b"a\nb"]),
        b"",
    ),
    "opened": (m.Opened(), b""),
    "watch": (watching.Watch([m.Place("web", b"a\xff/"), m.Place("b", b"")], 3600), b""),
    "beat": (watching.Beat(m.Place("web", b"a"), 2.0, 0.5, 0.25, 60.0, 3, 4096, "no space"), b""),
    "beat, the first and the last": (watching.Beat(m.Place("web", b""), 2.0, leaving=True), b""),
    "heard": (watching.Heard(7), b""),
    "changed": (watching.Changed(False), b""),
    "changed, unwatched": (watching.Changed(True, False, "too few watches"), b""),
    "mirror": (
        mirroring.Mirror(m.Place("m", b"db\xff"), DIGEST, 7, 2**62, (LONG_DIGEST[16:],), True),
        b"",
    ),
    "mirrored": (mirroring.Mirrored(DIGEST, 7, 2**62, DIGEST, True), b""),
    "mirrored, nothing": (mirroring.Mirrored(b"", 1, 0, bytes(16)), b""),
    "adopt": (mirroring.Adopt(2**62, DIGEST), b""),
    "stream": (mirroring.Stream(Level.WRITTEN), b""),
    "operations": (
        mirroring.Operations(5, 2, DIGEST, True),
        pack(Write(b"d/f\xff", 2**62, b"\0data", -1)) + pack(Rename(b"a", b"b")),
    ),
    "sync": (mirroring.Sync(6), b""),
    "resync begin": (mirroring.ResyncBegin(), b""),
    "resync end": (mirroring.ResyncEnd(9, 2**62, DIGEST), b""),
    "acked": (mirroring.Acked(9, 8, 7, 6, DIGEST), b""),
    "commit": (committing.Commit("wal", True, ("user", "acl")), b""),
    "commit file": (
        committing.CommitFile(
            b"a\xff/", MARKED, True, XATTRS, (model.Name(1, b"anna"),), (model.Name(1, b"users"),)
        ),
        b"",
    ),
    "commit data": (committing.CommitData(2**62, LONG_DIGEST), b"abc"),
    "commit data, void": (committing.CommitData(void=True), b""),
    "commit end": (committing.CommitEnd(), b""),
    "commit results": (
        committing.CommitResults(
            (
                committing.CommitResult(committing.Kept.CREATED, b"a\xff"),
                committing.CommitResult(committing.Kept.DIFFERS, b"b", 23, "commit", "why", "hint"),
            ),
            ("owners were not kept",),
        ),
        b"",
    ),
    "offer, single file": (m.Offer(True), b""),
    "offer, root": (m.Offer(False, model.Entry(b"", model.Kind.DIRECTORY, 0o755, 0, 0, 0, 7)), b""),
    "offer, origins": (
        m.Offer(False, origins=[model.Origin(b"d\xff", 2**63 - 1, 5, bytes(range(16)))]),
        b"",
    ),
    "offer, mounts": (
        m.Offer(False, origins=[model.Origin(b"a/b\xff/", 0, 0)], tells_mounts=True),
        b"",
    ),
    "offer, attributes": (
        m.Offer(
            False,
            model.Entry(b"", model.Kind.DIRECTORY, 0o755, 5, 6, 0, 7, xattrs=1),
            namespaces=["user", "acl"],
            xattrs=XATTRS,
            users=[model.Name(5, b"anna")],
            groups=[model.Name(6, b"users")],
        ),
        b"",
    ),
    "list, attributes": (
        m.List([m.Listing(0, [MARKED, UNKNOWN], True)], xattrs=[XATTRS]),
        b"",
    ),
    "list": (
        m.List(
            [
                m.Listing(0, [FILE, HASHED, LINK, DEVICE], True, False, [b"skipped\xff"]),
                m.Listing(3, [], False, True, [], [model.Rule(True, b"/x", 1)]),
            ],
            [model.Name(1000, b"anna")],
            [model.Name(100, b"users")],
            [PROBLEM],
        ),
        b"",
    ),
    "list, digest": (m.List([m.Listing(7, [], True, digest=DIGEST[:12], count=1 << 15)]), b""),
    "relisted": (m.Relisted([m.Listing(7, [FILE], False), m.Listing(7, [LINK], True)]), b""),
    "list end": (m.ListEnd(False, 3), b""),
    "files": (
        m.Files([m.FileHead(1, 3, -5, DIGEST), m.FileHead(2, 0, 2**62, DIGEST)]),
        b"abc",
    ),
    "piece": (m.Piece(7, [-1, 4, 0, 2**62, 4096, 512]), b"\0\1\2\xff"),
    "file end": (m.FileEnd(7, 2**62, 1_700_000_000_123_456_789, LONG_DIGEST), b""),
    "unsent": (m.Unsent([7, 9], [PROBLEM, VANISHED]), b""),
    "digests": (reuse.Digests([9, 7], [LONG_DIGEST, b""]), b""),
    "want fine": (fine.WantFine(4, [0, 2, 5, 2**40]), b""),
    "end": (m.End(), b""),
    "start": (m.Start(16384, b"new\xffname"), b""),
    "start, digests": (
        m.Start(1, digests=m.Terms(2**63 - 1, 0o1777, 254, True, False, True, False)),
        b"",
    ),
    "relist": (m.Relist([0, 2**63 - 1]), b""),
    "credit": (m.Credit(1 << 20), b""),
    "wants": (m.Wants([1, 2, 2**63 - 1], [4], 5), b""),
    "want delta": (m.WantDelta(4, 2**62, 8192, 2**63 - 1, True, 4096), b""),
    "signature": (m.Signature(4), bytes(24)),
    "fine signature": (fine.FineSignature(4), bytes(12)),
    "want rest": (reuse.WantRest(4, 2**62), b""),
    "want digests": (reuse.WantDigests([9, 7]), b""),
    "wants end": (m.WantsEnd(), b""),
    "applied": (
        m.Applied([1, 4], [model.Item(model.Change.CREATED, b"a\xff", True)], 1 << 40),
        b"",
    ),
    "committed": (m.Committed(REPORT), b""),
}


def frame_bytes(message: Message, tail: bytes = b"") -> bytes:
    """Return the frame that carries ``message``."""
    return b"".join(encode(message, [tail] if tail else []))


def stream_of(samples: Sequence[tuple[Message, bytes]]) -> bytes:
    """Return the frames of ``samples``, one behind the other."""
    return b"".join(frame_bytes(message, tail) for message, tail in samples)


def missing_classes() -> set[str]:
    """Return the message classes that no sample stands for."""
    sampled = {type(message) for message, _ in SAMPLES.values()}
    return {cls.__name__ for cls in set(MESSAGES.values()) - sampled}


def vectors() -> dict[str, str]:
    """Return the samples' frames in hexadecimal."""
    return {name: frame_bytes(*sample).hex() for name, sample in SAMPLES.items()}


if __name__ == "__main__":
    print(json.dumps(vectors(), indent=1))  # noqa: T201 - this is what it is for
