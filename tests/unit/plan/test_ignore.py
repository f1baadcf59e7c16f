"""Pattern files: lines as git reads them, groups, and rules of directories, deepest first."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from netsync.errors import UsageError
from netsync.model import Rule
from netsync.plan import filters
from netsync.plan.filters import Filter
from netsync.plan.ignore import PATTERN_MAX, parse_patterns


def rules_of(content: bytes, group: int = 1) -> list[Rule]:
    return [rule for _, rule in parse_patterns(content, group)]


@pytest.mark.parametrize(
    ("content", "rules"),
    [
        (b"", []),
        (b"\n\n  \n\r\n", []),
        (b"# a comment\n#\n", []),
        (b"*.o", [(True, b"*.o")]),
        (b"*.o\r\n!keep\r\n", [(True, b"*.o"), (False, b"keep")]),
        (b"\\#c\n\\!d\n", [(True, b"\\#c"), (True, b"\\!d")]),
        (b"!!x\n!#y\n", [(False, b"\\!x"), (False, b"\\#y")]),
        (b"\xef\xbb\xbf*.o\n", [(True, b"*.o")]),
        (b" lead\n", [(True, b" lead")]),
        (b"\xff\xfe\n", [(True, b"\xff\xfe")]),
    ],
)
def test_lines_become_rules(content: bytes, rules: list[tuple[bool, bytes]]) -> None:
    assert [(rule.exclude, rule.pattern) for rule in rules_of(content)] == rules


def test_lines_are_numbered_and_a_long_one_is_refused() -> None:
    assert [number for number, _ in parse_patterns(b"#\n\na\n!b\n", 1)] == [3, 4]
    with pytest.raises(ValueError, match="line 2"):
        list(parse_patterns(b"a\n" + b"x" * (PATTERN_MAX + 1), 1))


def test_in_a_group_the_last_match_decides_and_among_groups_the_first() -> None:
    rules = [
        Rule(False, b"first"),
        *rules_of(b"*\n!*.c\n!first\nlast.c\n", 1),
        *rules_of(b"!last.c\n", 2),
        Rule(True, b"never-asked"),
    ]
    decided = Filter(rules)
    assert not decided.excludes(b"first", directory=False)
    assert not decided.excludes(b"a/b.c", directory=False)
    assert decided.excludes(b"a/last.c", directory=False)
    assert decided.excludes(b"other", directory=False)


def test_rules_of_directories_hold_below_them_the_deepest_first() -> None:
    decided = Filter([Rule(False, b"asked.log")])
    decided.learn(b"", rules_of(b"*.log\n/top\n"))
    decided.learn(b"a/b", rules_of(b"!*.log\n/top\nx/y\n"))
    for path, excluded in [
        (b"one.log", True), (b"a/one.log", True), (b"a/b/one.log", False), (b"asked.log", False),
        (b"a/b/c/d/one.log", False), (b"a/bb/one.log", True), (b"top", True), (b"a/top", False),
        (b"a/b/top", True), (b"a/b/c/top", False), (b"a/b/x/y", True), (b"a/b/c/x/y", False),
        (b"\xff/one.log", True),
    ]:  # fmt: skip
        assert decided.excludes(path, directory=False) is excluded, path


def test_a_directory_whose_name_is_no_utf8_bounds_its_rules() -> None:
    decided = Filter([])
    decided.learn(b"\xff\xc3/\xa9", rules_of(b"/x\n"))
    assert decided.excludes(b"\xff\xc3/\xa9/x", directory=False)
    assert not decided.excludes(b"\xff\xc3/\xa9/y/x", directory=False)


def test_what_is_learned_is_checked_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError):
        Filter([]).learn(b"a", [Rule(True, b"[z-a]", 1)])
    monkeypatch.setattr(filters, "IGNORE_BYTES_MAX", 1000)
    decided = Filter([])
    decided.learn(b"a", [Rule(True, b"x" * 800, 1)])
    with pytest.raises(UsageError, match="ignore files"):
        decided.learn(b"b", [Rule(True, b"x" * 200, 1)])


FILES = {
    "": "*.o\n!keep.o\n/build/\ndoc/**/x\n**/deep/*.t\n[ab]?\\*\n\\ lead\ntrail\\ \ntab\t\n"
    "a/b\n*/one\n!*/sub/one\n",
    "sub": "keep.o\n!build/\n/only\n*.t\n!two.t\n",
    "sub/deep": "!*\nlast\n",
}
PATHS = [
    "x.o", "keep.o", "sub/x.o", "sub/keep.o", "sub/deep/x.o", "sub/deep/keep.o", "sub/deep/last",
    "build/f", "sub/build/f", "doc/x", "doc/a/b/x", "deep/y.t", "sub/one.t", "sub/two.t",
    "aXstar", "ac*", "bc*", " lead", "trail ", "trail", "tab\t", "tab", "a/b", "c/a/b", "sub/only",
    "sub/c/only", "q/one", "q/sub/one", "sub/one", "sub/deep/z.t",
]  # fmt: skip


def test_git_decides_the_same(tmp_path: Path) -> None:
    """git itself, asked about every path with the same files under its own name for them."""
    decided = Filter([])
    for directory, content in FILES.items():
        (tmp_path / directory).mkdir(parents=True, exist_ok=True)
        (tmp_path / directory / ".gitignore").write_text(content)
        decided.learn(directory.encode(), rules_of(content.encode()))
    for path in PATHS:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    subprocess.run(["git", "init", "-q", tmp_path], check=True, timeout=30)
    asked = subprocess.run(
        ["git", "check-ignore", "-z", "--no-index", "--stdin"],
        cwd=tmp_path, input="\0".join(PATHS).encode(), capture_output=True, check=False, timeout=30,
    )  # fmt: skip
    ignored = {path.decode() for path in asked.stdout.split(b"\0") if path}

    def left_out(path: str) -> bool:
        parts = path.encode().split(b"/")
        above = [b"/".join(parts[:end]) for end in range(1, len(parts))]
        if any(decided.excludes(each, directory=True) for each in above):
            return True
        return decided.excludes(path.encode(), directory=False)

    assert {path for path in PATHS if left_out(path)} == ignored
    assert ignored
