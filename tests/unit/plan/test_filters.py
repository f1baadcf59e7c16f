"""Rules in gitignore syntax: what they match, which one decides, and which are refused."""

from __future__ import annotations

import pytest

from netsync.errors import UsageError
from netsync.model import Rule
from netsync.plan.filters import Filter


def excluding(*patterns: str) -> Filter:
    return Filter([Rule(True, pattern.encode("utf-8", "surrogateescape")) for pattern in patterns])


CASES = [
    # pattern, path, is a directory, excluded
    ("*.log", b"a.log", False, True),
    ("*.log", b"deep/down/a.log", False, True),
    ("*.log", b"a.log.txt", False, False),
    ("*.log", b"logs", True, False),
    ("*.log", b".log", False, True),
    ("/*.log", b"a.log", False, True),
    ("/*.log", b"sub/a.log", False, False),
    ("build/", b"build", True, True),
    ("build/", b"build", False, False),
    ("build/", b"src/build", True, True),
    ("/build/", b"src/build", True, False),
    ("src/build", b"src/build", True, True),
    ("src/build", b"src/build", False, True),
    ("src/build", b"other/src/build", True, False),
    ("**/cache", b"cache", True, True),
    ("**/cache", b"a/b/cache", False, True),
    ("a/**/b", b"a/b", False, True),
    ("a/**/b", b"a/x/y/b", False, True),
    ("a/**/b", b"a/x/y/c", False, False),
    ("logs/**", b"logs", True, False),
    ("logs/**", b"logs/today", False, True),
    ("logs/*", b"logs/today", False, True),
    ("logs/*", b"logs/a/today", False, False),
    ("file?", b"file1", False, True),
    ("file?", b"file", False, False),
    ("file?", b"a/file/", False, False),
    ("[ab]c", b"ac", False, True),
    ("[ab]c", b"cc", False, False),
    ("[!ab]c", b"cc", False, True),
    ("[!ab]c", b"ac", False, False),
    (r"\#kept", b"#kept", False, True),
    (r"\!kept", b"!kept", False, True),
    (r"a\*", b"a*", False, True),
    (r"a\*", b"ab", False, False),
    ("with space", b"with space", False, True),
    ("*", b"anything", True, True),
    ("*.tmp", b"two\nlines.tmp", False, True),
    ("a*z", b"a\nz", False, True),
    ("**/x", b"a\nb/x", False, True),
    ("*.log", b"a.log\n", False, False),
    ("/exact", b"exact\n", False, False),
    ("*.tmp", b"\xff\xfe.tmp", False, True),
    ("?.tmp", b"\xff.tmp", False, True),
    ("?.tmp", "ä.tmp".encode(), False, True),
    ("ä*", "ä1".encode(), False, True),
    ("\udcff*", b"\xffx", False, True),
    ("(a|b)", b"(a|b)", False, True),
    ("(a|b)", b"a", False, False),
    ("a.b", b"axb", False, False),
    ("a+", b"aa", False, False),
]


@pytest.mark.parametrize(("pattern", "path", "directory", "excluded"), CASES)
def test_a_pattern_matches_as_git_says(
    pattern: str, path: bytes, directory: bool, excluded: bool
) -> None:
    assert excluding(pattern).excludes(path, directory=directory) is excluded


def test_a_lone_slash_selects_nothing() -> None:
    try:
        lone = excluding("/")
    except UsageError:
        return
    assert not lone.excludes(b"anything", directory=False)


def test_without_rules_nothing_is_excluded() -> None:
    assert not Filter([]).excludes(b"*.log", directory=False)


def test_the_first_rule_that_matches_decides() -> None:
    keep, drop = Rule(False, b"keep.log"), Rule(True, b"*.log")
    assert not Filter([keep, drop]).excludes(b"a/keep.log", directory=False)
    assert Filter([drop, keep]).excludes(b"a/keep.log", directory=False)
    assert Filter([keep, drop]).excludes(b"other.log", directory=False)


def test_an_include_alone_excludes_nothing() -> None:
    assert not Filter([Rule(False, b"*.py")]).excludes(b"a.txt", directory=False)


REFUSED = ["", "   ", "!", "!negated", "#comment", "\\", "ends with\\", "[z-a]", "a[9-0]b"]


@pytest.mark.parametrize("pattern", REFUSED)
def test_a_pattern_that_cannot_select_is_refused_with_words(pattern: str) -> None:
    with pytest.raises(UsageError) as caught:
        excluding(pattern)
    assert caught.value.exit_code == 1
    assert "read pattern" in str(caught.value)


@pytest.mark.timeout(3)
def test_a_peers_pattern_of_many_stars_is_decided_at_once() -> None:
    """The match must not try every way to share a name among the stars: it stops the server."""
    rules = excluding("*a" * 12 + "b")
    assert not rules.excludes(b"a" * 200, directory=False)
    assert rules.excludes(b"a" * 200 + b"b", directory=False)


def test_rules_are_compiled_in_a_bounded_time_even_when_long() -> None:
    rules = excluding(*("x" * 4096 for _ in range(50)))
    assert not rules.excludes(b"y" * 4096, directory=False)
