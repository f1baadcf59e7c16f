"""Commits between liars: a client that sends what is not so, a server that says what was not asked.

Over real TLS against the real other side; in memory, and in more ways, in
``tests/unit/transfer/test_commit.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from blake3 import blake3

from netsync.wire import messages as m
from netsync.wire.committing import (
    COMMIT_FILES_MAX,
    Commit,
    CommitData,
    CommitEnd,
    CommitFile,
    CommitResult,
    CommitResults,
    Kept,
)
from netsync.wire.messages import Message
from tests.hostile.conftest import MODULE, Victim
from tests.hostile.test_any_field import ALL, FEW, attack_server, saying
from tests.support.commits import entry
from tests.support.liars import HELLO, WELCOME, Liar, Where, lying_server
from tests.support.processes import Result, netsync

DATA = b"the file"
DIGEST = blake3(DATA).digest()
HEAD = CommitFile(b"c", entry(b"file", len(DATA)), False, ((b"user.note", b"1"),))
CREATED = CommitResult(Kept.CREATED, b"file")


# --- a client that lies -------------------------------------------------------------------------


def begin(liar: Liar, module: str = MODULE) -> None:
    liar.greet()
    liar.say(Commit(module))


@pytest.mark.parametrize(
    ("data", "digest"), [(DATA, bytes(32)), (DATA[:-1], blake3(DATA[:-1]).digest())]
)
def test_content_that_is_not_what_was_said_gets_no_name(
    victim: Victim, data: bytes, digest: bytes
) -> None:
    """A wrong digest, and less than the size: the file fails, the session goes on."""
    with victim.attacked(lines=None) as liar:
        begin(liar)
        liar.say(HEAD)
        liar.say(CommitData(digest=digest), data)
        liar.say(CommitEnd())
        answer = liar.hear(CommitResults)
        assert isinstance(answer, CommitResults)
        assert [result.kept for result in answer.results] == [Kept.FAILED]
        liar.say(m.Bye())
        liar.end()
    assert list((victim.root / "c").iterdir()) == []


OUT_OF_LINE: dict[str, tuple[Message, ...]] = {
    "a name that climbs": (CommitFile(b"", entry(b"../x", 0)),),
    "an absolute name": (CommitFile(b"", entry(b"/etc/x", 0)),),
    "a name of ours": (CommitFile(b"", entry(b".netsync", 0)),),
    "data without a file": (CommitData(),),
    "an end in a file": (HEAD, CommitEnd()),
    "a file in a file": (HEAD, HEAD),
    "a commit in a commit": (Commit(MODULE),),
    "another request in a commit": (m.Browse(MODULE),),
    "results from a client": (CommitResults(()),),
    "a hole over its end": (HEAD, CommitData(2**62)),
}


@pytest.mark.parametrize("messages", OUT_OF_LINE.values(), ids=OUT_OF_LINE)
def test_what_may_not_be_said_ends_the_session(
    victim: Victim, messages: tuple[Message, ...]
) -> None:
    with victim.attacked() as liar:
        begin(liar)
        for message in (*messages, CommitEnd()):
            liar.say(message)
        fault = liar.end()
    assert fault is not None
    assert fault.code == 12
    assert not (victim.root / "x").exists()


@pytest.mark.parametrize("path", [b"../x", b"way-out/x", b"/../x", b"way-out", b".netsync/x"])
def test_a_place_that_leads_out_fails_the_file(victim: Victim, path: bytes) -> None:
    with victim.attacked(lines=None) as liar:
        begin(liar)
        liar.say(msgspec.structs.replace(HEAD, path=path, single=True))
        liar.say(CommitData(digest=DIGEST), DATA)
        liar.say(CommitEnd())
        answer = liar.hear(CommitResults)
        assert isinstance(answer, CommitResults)
        assert [result.code for result in answer.results] == [5]
        liar.say(m.Bye())
        liar.end()


SAID: tuple[tuple[Message, bytes], ...] = (
    (HELLO, b""), (Commit(MODULE, True, ("user",)), b""), (HEAD, b""),
    (CommitData(0, b"", False), DATA[:3]), (CommitData(0, DIGEST), DATA[3:]), (CommitEnd(), b""),
)  # fmt: skip


def commit_with(liar: Liar, index: int, where: Where, value: Any, _: int) -> None:
    say = saying(liar, index, where, value)
    for message, tail in SAID:
        say(message, tail)
        if message is HELLO:
            liar.hear(m.Welcome)
    liar.hear(CommitResults)
    liar.say(m.Bye())
    liar.end()


def test_any_field_of_a_commit_overridden(victim: Victim) -> None:
    """The session ends within its time, well or with one error; the server serves on."""
    attack_server(victim, [message for message, _ in SAID], (*FEW, b"..", None), commit_with)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_any_field_of_a_commit_overridden_with_any_value(victim: Victim) -> None:
    attack_server(victim, [message for message, _ in SAID], ALL, commit_with)


# --- a server that lies -------------------------------------------------------------------------


def committed(tmp_path: Path, script: Callable[[Liar], None]) -> Result:
    """Commit a file to a server that lies."""
    (tmp_path / "file").write_bytes(DATA)

    def serve(liar: Liar) -> None:
        liar.hear(m.Hello)
        liar.say(WELCOME)
        liar.hear(Commit)
        script(liar)

    with lying_server(serve) as server:
        words = ("commit", "--no-resident", "--timeout", "2", "--connect-timeout", "20")
        result = netsync(*words, tmp_path / "file", server.url("m/"))
    assert all(line.isprintable() for line in result.stderr.splitlines()), result
    return result


def answers(*results: CommitResult) -> Callable[[Liar], None]:
    """Return a server that takes all and answers this."""

    def script(liar: Liar) -> None:
        liar.hear(CommitEnd)
        liar.say(CommitResults(results))

    return script


WRONG: dict[str, Callable[[Liar], None]] = {
    "nothing": answers(),
    "too much": answers(CREATED, CREATED),
    "about another name": answers(CommitResult(Kept.CREATED, b"other")),
    "about no name": answers(CommitResult(Kept.SAME)),
    "before it was asked": lambda liar: liar.say(CommitResults((CREATED,))),
    "something else": lambda liar: liar.say(m.Opened()),
    "a failure without a reason": answers(CommitResult(Kept.FAILED, b"file", 23)),
    "more than may be": answers(*[CREATED] * (COMMIT_FILES_MAX + 1)),
}


@pytest.mark.parametrize("script", WRONG.values(), ids=WRONG)
def test_an_answer_that_cannot_be_is_never_success(
    tmp_path: Path, script: Callable[[Liar], None]
) -> None:
    result = committed(tmp_path, script)
    assert result.code == 12, result
    assert len(result.stderr.splitlines()) == 1


def test_words_of_a_server_are_shown_escaped(tmp_path: Path) -> None:
    words = "\x1b]0;owned\x07\r\nnetsync: all is well"
    said = CommitResult(Kept.FAILED, b"file", 11, words, words, words)
    result = committed(tmp_path, answers(said))
    assert result.code == 11
    assert len(result.stderr.splitlines()) == 1


def test_an_end_before_all_was_said_is_a_failure_and_after_it_is_open(tmp_path: Path) -> None:
    """10 and 13: nothing can have been done, and nobody knows."""

    def hang_up_at_once(liar: Liar) -> None:
        liar.hear(CommitFile)
        liar.close()

    def hang_up_late(liar: Liar) -> None:
        liar.hear(CommitEnd)
        liar.close()

    def say_nothing(liar: Liar) -> None:
        liar.hear(CommitEnd)
        liar.end()

    assert committed(tmp_path, hang_up_at_once).code in (10, 13)
    assert committed(tmp_path, hang_up_late).code == 13
    assert committed(tmp_path, say_nothing).code == 13
