"""Changes of modes: rsync's notation, and for what the two share chmod's own answers."""

from __future__ import annotations

import stat
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netsync.plan.chmod import changed, parse_chmod

unhurried = settings(deadline=None, derandomize=True)
UMASK = 0o022


def after(text: str, mode: int, *, directory: bool = False) -> int:
    return changed(mode, parse_chmod(text, UMASK), directory=directory)


@pytest.mark.parametrize(
    ("text", "mode", "for_file", "for_directory"),
    [
        ("640", 0o4777, 0o640, 0o640),
        ("D2775,F664", 0o700, 0o664, 0o2775),
        ("u+x", 0o644, 0o744, 0o744),
        ("go-w", 0o666, 0o644, 0o644),
        ("g=r", 0o677, 0o647, 0o647),
        ("=r", 0o777, 0o444, 0o444),
        ("+w", 0o444, 0o644, 0o644),
        ("a+w", 0o444, 0o666, 0o666),
        ("+X", 0o644, 0o644, 0o755),
        ("+X", 0o744, 0o755, 0o755),
        ("u=rwX,go=rX", 0o600, 0o644, 0o755),
        ("a-x,a+X", 0o755, 0o755, 0o755),
        ("u+s", 0o755, 0o4755, 0o4755),
        ("g-s", 0o6755, 0o4755, 0o4755),
        ("u=rw", 0o4755, 0o4655, 0o4655),
        ("u=rws", 0o755, 0o4655, 0o4655),
        ("+t", 0o755, 0o1755, 0o1755),
        ("o-rwx", 0o1777, 0o1770, 0o1770),
        ("Dg+s,ug+w,Fo-w,+X", 0o606, 0o624, 0o2737),
        ("u+r-w", 0o200, 0o400, 0o400),
        ("", 0, 0, 0),
    ],
)
def test_a_mode_is_changed(text: str, mode: int, for_file: int, for_directory: int) -> None:
    if text:
        assert oct(after(text, mode)) == oct(for_file)
        assert oct(after(text, mode, directory=True)) == oct(for_directory)
    assert changed(mode, (), directory=False) == mode


@pytest.mark.parametrize(
    ("text", "words"),
    [("rwx", "not like"), ("u", "not like"), ("u+rwx,", "not like"), ("8", "not like"),
     ("77777", "not like"), ("D", "not like"), ("DFu+r", "not like"), ("u+q", "not like"),
     ("g=u", "copies"), (",".join(["u+r"] * 257), "256")],
)  # fmt: skip
def test_what_is_no_change_is_refused_with_words(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_chmod(text, UMASK)


clauses = st.from_regex(r"[ugo]{1,3}[-+][rwxX]{1,3}|a?=[rwx]{1,3}", fullmatch=True)


@settings(unhurried, max_examples=60)
@given(st.lists(clauses, min_size=1, max_size=3).map(",".join), st.integers(0, 0o777))
def test_it_agrees_with_chmod(text: str, mode: int) -> None:
    """What is written the same in both means the same."""
    script = f"umask {UMASK:o}; t=$(mktemp) && chmod {mode:o} $t && chmod {text} $t; stat -c %a $t; rm -f $t"  # noqa: E501 - one line of shell
    done = subprocess.run(["sh", "-c", script], capture_output=True, check=True, text=True)
    assume_one_look = "X" in text and any(c in text for c in "x=")
    if not assume_one_look:  # chmod looks for execution anew at each part, rsync only once
        assert after(text, mode) == int(done.stdout, 8)


@unhurried
@given(st.text("DFugoa+-=rwxXst0127,", max_size=20), st.integers(0, 0o7777), st.booleans())
def test_any_text_gives_a_mode_or_is_refused(text: str, mode: int, directory: bool) -> None:
    try:
        rules = parse_chmod(text, UMASK)
    except ValueError:
        return
    assert stat.S_IMODE(result := changed(mode, rules, directory=directory)) == result
