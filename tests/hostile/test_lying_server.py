"""A server that lies, against the real client: M02, M11, M12, M23, M26 to M30, M32, M34 to M39,
M46, M47, M49, M56 and M59.

Whoever pulls trusts the server with what was asked for and with nothing else. Each lie ends the
command with exit code 12 (or counts as a failed file) and one line; nothing lies beside what was
asked for, the tree outside is as it was.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import pytest
from xxhash import xxh3_128_digest

from netsync.model import Entry, Kind, Name, Problem, Report
from netsync.wire import messages as m
from netsync.wire.frames import COMPRESSED
from netsync.wire.messages import Message
from tests.support.certificates import certificates, issue
from tests.support.confined import let_all_in
from tests.support.liars import WELCOME, Liar, facts, frame, lying_server, resident_peak, welcome
from tests.support.processes import Result, netsync, running
from tests.support.trees import Value, make_tree, read_tree

MIB = 1 << 20
HOME: dict[str, Value] = {"kept": b"kept", "way": "../outside", "photos": {"old": b"old"}}
CONTROL: Final = "\x1b]0;owned\x07\r\nnetsync: all is well\u009b\u202e"


def file(name: bytes, size: int = 3, link: int = 0) -> Entry:
    return Entry(name, Kind.FILE, 0o644, 0, 0, size, 5, link=link)


def directory(name: bytes) -> Entry:
    return Entry(name, Kind.DIRECTORY, 0o755, 0, 0, 0, 5)


def link(name: bytes, text: bytes) -> Entry:
    return Entry(name, Kind.SYMLINK, 0o777, 0, 0, 0, 5, text)


def root(*entries: Entry, number: int = 0, final: bool = True) -> m.List:
    return m.List([m.Listing(number, list(entries), final)])


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A directory to pull into, with a link in it that leads out."""
    make_tree(tmp_path / "outside", {"secret": b"secret", "sub": {"x": b"x"}})
    return make_tree(tmp_path / "home", HOME)


def says(*messages: Message, offer: m.Offer | None = None) -> Callable[[Liar], None]:
    """Return a server that offers, waits for the start, and says this."""

    def script(liar: Liar) -> None:
        welcome(liar)
        liar.say(offer or m.Offer(False))
        liar.hear(m.Start)
        for message in messages:
            liar.say(message)
        liar.end()

    return script


def pulled(
    home: Path, script: Callable[[Liar], None], *options: str, place: str = "m/photos"
) -> Result:
    """Pull from a lying server; the world outside is as it was."""
    outside = facts(home.parent / "outside")
    with lying_server(script) as server:
        result = netsync("pull", "--no-fsync", *options, server.url(place), f"{home}/")
    assert facts(home.parent / "outside") == outside
    assert all(line.isprintable() for line in result.stderr.splitlines()), result
    return result


def refused(result: Result) -> None:
    """One line, and exit code 12."""
    assert result.code == 12, result
    assert len(result.stderr.splitlines()) == 1, result


NOT_ASKED: dict[str, tuple[Sequence[str], str, m.List]] = {
    "another name": ((), "m/photos", root(directory(b".ssh"))),
    "a name beside": ((), "m/photos", root(file(b".bashrc"), directory(b"photos"))),
    "a link beside": ((), "m/photos", root(link(b"a", b"/etc"), directory(b"photos"))),
    "a file for a file": ((), "m/a.txt", root(file(b"b.txt"))),
    "an excluded name": (("--exclude=*.key",), "m/", root(file(b"id.key"))),
    "an excluded directory": (("--exclude=.ssh/",), "m/", root(directory(b".ssh"))),
    "all but what is included": (
        ("--include=*.jpg", "--exclude=*"), "m/", root(file(b"a.png"))
    ),
    "a link where none are wanted": (("--no-links",), "m/", root(link(b"l", b"x"))),
    "a link where they are followed": (("--copy-links",), "m/", root(link(b"l", b"x"))),
}  # fmt: skip


@pytest.mark.parametrize(("options", "place", "listed"), NOT_ASKED.values(), ids=NOT_ASKED)
def test_m28_what_was_not_asked_for_is_refused(
    home: Path, options: Sequence[str], place: str, listed: m.List
) -> None:
    """CVE-2022-29154: a server that adds a name beside what is fetched, or one that is excluded."""
    result = pulled(home, says(listed, m.ListEnd(True)), *options, place=place)
    refused(result)
    assert "not asked for" in result.stderr
    assert read_tree(home) == HOME


def test_m28_with_a_list_of_names_only_these_come(home: Path, tmp_path: Path) -> None:
    (tmp_path / "names").write_text("a\nd/x\ne/\n")
    names = f"--files-from={tmp_path / 'names'}"
    fine = (root(file(b"a"), directory(b"d"), directory(b"e")), root(file(b"x"), number=2))
    for listed in (
        (root(file(b"b")),),
        (*fine[:1], root(file(b"y"), number=2)),
        (*fine, root(directory(b"in"), number=3), root(file(b"deep"), number=5)),
    ):
        refused(pulled(home, says(*listed), names, place="m/"))
    result = pulled(home, says(*fine, m.End()), names, place="m/")
    assert "not asked for" not in result.stderr


def test_m28_metadata_of_a_directory_that_was_not_asked_for_is_refused(home: Path) -> None:
    """Who pulls a directory by name into another has not asked for the other's mode."""
    home.chmod(0o750)
    offer = m.Offer(False, Entry(b"", Kind.DIRECTORY, 0o777, 7, 7, 0, 5))
    refused(pulled(home, says(root(directory(b"photos")), offer=offer)))
    assert home.stat().st_mode & 0o777 == 0o750


LISTINGS: dict[str, Sequence[Message]] = {
    **{
        f"M27 the name {name!r}": [root(file(name))]
        for name in (b"", b".", b"..", b"a/b", b"/etc/x", b"../outside/x", b"a\0b", b"x" * 256)
    },
    "M38 netsync's own name": [root(directory(b".netsync"))],
    "M38 a name like its temporaries": [root(file(b".netsync-tmp-1"))],
    "M29 a name twice": [root(file(b"a"), file(b"a"))],
    "M29 a name as link and as directory": [root(link(b"a", b"x"), directory(b"a"))],
    "M29 a directory never opened": [root(file(b"a"), number=7)],
    "M29 below a file": [root(file(b"a")), root(file(b"b"), number=1)],
    "M30 below a link": [root(link(b"a", b"../outside")), root(file(b"x"), number=1)],
    "M32 a link to what comes later": [root(file(b"a", link=2), file(b"b", link=2))],
    "M32 a link to a directory": [root(directory(b"a"), file(b"b", link=1))],
    "M32 a link to itself, which is a directory": [
        root(Entry(b"a", Kind.DIRECTORY, 0o755, 0, 0, 0, 5, link=1))
    ],
    "M36 attributes that were not told": [
        root(Entry(b"a", Kind.FILE, 0o644, 0, 0, 1, 5, xattrs=9))
    ],
    **{
        f"M36 the attribute {name!r}": [
            m.List([m.Listing(0, [Entry(b"a", Kind.FILE, 0o644, 0, 0, 1, 5, xattrs=1)], True)],
                   xattrs=[((name, b"x"),)])
        ]
        for name in (b"", b"user.", b"nothing", b"user.a\0b", b"user.netsync.metadata",
                     b"system.posix_acl_access", b"x" * 256, b"security")
    },
    "M49 an end with the root open": [m.ListEnd(True)],
    "M11 what a target says": [m.Start(1)],
    "M11 the welcome again": [WELCOME],
    "M26 the end before all is listed": [m.End()],
}  # fmt: skip


@pytest.mark.parametrize("lie", LISTINGS.values(), ids=LISTINGS)
def test_a_listing_that_cannot_be_is_refused(home: Path, lie: Sequence[Message]) -> None:
    """M27, M29, M30, M32, M36, M38: told in one line, nothing made of it."""
    refused(pulled(home, says(*lie), "--delete", place="m/"))
    there = read_tree(home)
    if isinstance(there.get("a"), str):
        del there["a"]  # a link is an entry like any other, as long as nothing goes through it
    assert there == HOME


def test_m26_a_clean_end_before_the_commit_is_no_success(home: Path) -> None:
    def script(liar: Liar) -> None:
        welcome(liar)
        liar.say(m.Offer(False))
        liar.hear(m.Start)
        liar.say(root())
        liar.say(m.ListEnd(True))
        liar.hear(m.WantsEnd)
        liar.tls.unwrap()

    result = pulled(home, script, place="m/")
    assert result.code == 10
    assert len(result.stderr.splitlines()) == 1


def test_m26_a_cut_in_a_file_leaves_the_old_one(home: Path) -> None:
    (home / "old").write_bytes(b"old" * 100_000)

    def script(liar: Liar) -> None:
        welcome(liar)
        liar.say(m.Offer(False))
        liar.hear(m.Start)
        liar.say(root(file(b"old", MIB)))
        liar.say(m.ListEnd(True))
        liar.hear(m.Wants)
        liar.say(m.Piece(1, [-1, 4096]), bytes(4096))
        liar.raw(frame(36, b"\x82")[:-3])
        liar.close()

    assert pulled(home, script, place="m/").code == 10
    assert (home / "old").read_bytes() == b"old" * 100_000


def test_m02_m39_a_name_beyond_what_the_system_takes_is_a_problem(home: Path) -> None:
    """A path longer than PATH_MAX is walked; nothing recurses."""
    levels = 1000
    listed = [root(directory(b"d" * 250), number=number) for number in range(levels)]
    done = [root(number=levels), m.ListEnd(True)]

    def script(liar: Liar) -> None:
        welcome(liar)
        liar.say(m.Offer(False))
        liar.hear(m.Start)
        for message in (*listed, *done):
            liar.say(message)
        liar.hear(m.WantsEnd)
        liar.say(m.End())
        liar.hear(m.Bye)

    result = pulled(home, script, "-n", place="m/")
    assert result.code in (0, 23), result
    assert read_tree(home) == HOME


def test_m34_m35_special_files_and_set_id_bits_come_only_where_they_may(home: Path) -> None:
    """Who is no root gets neither a device nor another's set-user bit."""
    entries = [
        Entry(b"device", Kind.BLOCK, 0o666, 0, 0, 0, 5, b"", 0x800),
        Entry(b"suid", Kind.FIFO, 0o6777, 0, 0, 0, 5),
    ]

    def script(liar: Liar) -> None:
        welcome(liar)
        liar.say(m.Offer(False))
        liar.hear(m.Start)
        liar.say(root(*entries))
        liar.say(m.ListEnd(True))
        liar.hear(m.WantsEnd)
        liar.say(m.End())
        liar.hear(m.Bye)

    user = 65534
    who = home.parent / "who"
    issue(who)
    for path in (who, *who.iterdir()):
        path.chmod(0o700 if path.is_dir() else 0o600)
    for path in (home, who, *who.iterdir()):
        os.chown(path, user, user)
    let_all_in(home.parent)
    with lying_server(script) as server:
        netsync("pull", "--no-fsync", server.url("m/"), f"{home}/", identity=who, user=user)
    assert not (home / "device").exists()
    if (home / "suid").exists():
        assert not (home / "suid").stat().st_mode & 0o6000


def test_m37_a_time_that_cannot_be_is_told_and_the_rest_goes_on(home: Path) -> None:
    """The years -290 and 2262 are the ends of what a message holds; no file system takes all."""

    def script(liar: Liar) -> None:
        welcome(liar)
        liar.say(m.Offer(False))
        liar.hear(m.Start)
        times = (-(2**63), 2**63 - 1)
        entries = [Entry(b"%d" % n, Kind.DIRECTORY, 0o755, 0, 0, 0, t) for n, t in enumerate(times)]
        liar.say(root(*entries))
        liar.say(m.List([m.Listing(1, [], True), m.Listing(2, [], True)]))
        liar.say(m.ListEnd(True))
        liar.hear(m.WantsEnd)
        liar.say(m.End())
        liar.hear(m.Committed)
        liar.hear(m.Bye)

    result = pulled(home, script, place="m/")
    assert result.code in (0, 23), result
    assert (home / "0").is_dir()
    assert (home / "1").is_dir()


def test_m37_a_file_of_8_eib_is_not_waited_for(home: Path) -> None:
    """Nothing is allocated for a size that is only said."""

    def script(liar: Liar) -> None:
        welcome(liar)
        liar.say(m.Offer(False))
        liar.hear(m.Start)
        liar.say(root(file(b"huge", 2**63 - 1)))
        liar.say(m.ListEnd(True))
        liar.hear(m.Wants)
        liar.say(m.Piece(1, [-1, 3]), b"abc")
        liar.say(m.FileEnd(1, 2**63 - 1, 5, xxh3_128_digest(b"abc")))
        liar.hear(m.Wants)
        liar.say(m.Unsent([1], [Problem(b"huge", "read", CONTROL)]))
        liar.hear(m.WantsEnd)
        liar.say(m.End())
        liar.hear(m.Bye)

    result = pulled(home, script, place="m/")
    assert result.code == 23, result
    assert not (home / "huge").exists()


def test_m47_forged_content_is_not_published(home: Path) -> None:
    """Whatever the digest says that comes with it, what was verified is what is there."""

    def script(liar: Liar) -> None:
        welcome(liar)
        liar.say(m.Offer(False))
        liar.hear(m.Start)
        liar.say(root(file(b"kept", 6)))
        liar.say(m.ListEnd(True))
        for _ in range(3):
            liar.hear(m.Wants)
            liar.say(m.Files([m.FileHead(1, 6, 5, xxh3_128_digest(b"other!"))]), b"forged")
        liar.hear(m.WantsEnd)
        liar.say(m.End())
        liar.hear(m.Bye)

    result = pulled(home, script, place="m/")
    assert result.code == 23, result
    assert (home / "kept").read_bytes() == b"kept"


def test_m12_a_bomb_is_refused(home: Path) -> None:
    def script(liar: Liar) -> None:
        welcome(liar)
        liar.say(m.Offer(False))
        liar.hear(m.Start)
        liar.raw(frame(36, b"\x82\xa6number\x01\xa3ops\x90", b"\x7f\xff\xff\xff", flags=COMPRESSED))
        liar.end()

    refused(pulled(home, script, place="m/"))


def test_m56_a_servers_words_are_shown_escaped(home: Path) -> None:
    """In a fault, a problem, a notice, the reason of a guard and the software's name."""

    def fault(liar: Liar) -> None:
        liar.hear(m.Hello)
        liar.say(m.Fault(5, CONTROL, CONTROL, CONTROL, CONTROL))
        liar.end()

    def problem(liar: Liar) -> None:
        welcome(liar)
        liar.say(m.Offer(False))
        liar.hear(m.Start)
        liar.say(m.List([], problems=[Problem(CONTROL.encode(), CONTROL, CONTROL)]))
        liar.say(root())
        liar.say(m.ListEnd(True))
        liar.hear(m.WantsEnd)
        liar.say(m.End())
        liar.hear(m.Bye)

    assert pulled(home, fault, place="m/").code == 5
    result = pulled(home, problem, place="m/")
    assert result.code == 23
    assert len(result.stderr.splitlines()) == 1, result


def test_m56_a_report_is_shown_escaped(home: Path) -> None:
    report = Report(held=CONTROL, notices=(CONTROL,), problems=(Problem(b"x", CONTROL, CONTROL),))

    def script(liar: Liar) -> None:
        welcome(liar)
        liar.hear(m.Offer)
        liar.say(m.Start(16384))
        liar.hear(m.ListEnd)
        liar.say(m.WantsEnd())
        liar.hear(m.End)
        liar.say(m.Committed(report))
        liar.hear(m.Bye)

    with lying_server(script) as server:
        result = netsync("push", f"{home}/", server.url("m/"))
    assert result.code == 25
    assert [line.isprintable() for line in result.stderr.splitlines()] == [True] * 3


def test_m56_a_browsed_name_is_shown_escaped() -> None:
    def script(liar: Liar) -> None:
        liar.hear(m.Hello)
        liar.say(WELCOME)
        liar.hear(m.Browse)
        modules = [m.ModuleInfo(CONTROL, [CONTROL])]
        liar.say(m.Browsed(modules, [file(CONTROL.encode()), link(b"l", CONTROL.encode())], True))
        liar.hear(m.Bye)

    with lying_server(script) as server:
        result = netsync("ls", server.url(""))
    assert len(result.stdout.splitlines()) == 3
    assert all(line.isprintable() for line in result.stdout.splitlines())


ENDLESS: dict[str, tuple[str, int, m.Browsed | m.List]] = {
    "browsed names": ("ls", 60, m.Browsed([], [file(b"%0200d" % n) for n in range(1000)])),
    "browsed modules": ("ls", 400, m.Browsed([m.ModuleInfo("x" * 4000, ["pull"])] * 60)),
    "problems": ("pull", 400, m.List([], problems=[Problem(b"x" * 900, "read", "y")] * 200)),
    "owners": ("pull", 400, m.List([], users=[Name(n, b"x" * 200) for n in range(1000)])),
    "nothing": ("pull", 20_000, m.List([])),
}


@pytest.mark.parametrize(("command", "count", "message"), ENDLESS.values(), ids=ENDLESS)
def test_m59_an_answer_without_end_costs_no_memory(
    home: Path, command: str, count: int, message: m.Browsed | m.List
) -> None:
    """Up to 100 MB of it: the client prints, or refuses, and holds none of it."""

    def script(liar: Liar) -> None:
        if command == "ls":
            liar.hear(m.Hello)
            liar.say(WELCOME)
            liar.hear(m.Browse)
        else:
            welcome(liar)
            liar.say(m.Offer(False))
            liar.hear(m.Start)
        for _ in range(count):
            liar.say(message)
        liar.close()

    with lying_server(script) as server:
        words = (command, server.url("m/"), *([f"{home}/"] if command == "pull" else []))
        with running(*words) as client:
            client.wait_for(lambda: client.stdout or not client.running or command == "pull", "it")
            peak = 0
            while client.running:
                try:
                    peak = resident_peak(client.process.pid)
                except (AssertionError, OSError, ValueError):
                    break
                time.sleep(0.02)
            result = client.wait()
    assert result.code in (10, 12), result.stderr
    assert "Traceback" not in result.stderr
    assert peak < 80 * MIB, f"{peak >> 20} MiB"


def test_m23_a_client_certificate_is_no_servers(home: Path) -> None:
    """Who may only connect cannot be connected to, though its CA is ours."""
    with lying_server(lambda liar: None, certificates().other) as server:
        result = netsync("pull", server.url("m/"), f"{home}/")
    assert result.code == 5
    assert len(result.stderr.splitlines()) == 1


def test_m11_a_server_that_answers_the_hello_with_something_else(home: Path) -> None:
    def script(liar: Liar) -> None:
        liar.hear(m.Hello)
        liar.say(m.Opened())
        liar.end()

    refused(pulled(home, script, place="m/"))
