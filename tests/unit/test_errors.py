"""The one tree of errors: exit codes, one line each, and which one explains a group."""

from __future__ import annotations

import errno

import pytest

from netsync.errors import (
    NetsyncError,
    NetworkError,
    ProtocolError,
    RefusedError,
    RootError,
    StalledError,
    error_for_exit_code,
    principal,
    root_error,
)


def test_an_error_is_one_line_that_says_what_where_why_and_what_to_do() -> None:
    error = RefusedError("no such module", op="use module", where=b"we\nb", hint="list them")
    assert str(error) == "use module we\\012b: no such module (list them)"


def test_an_error_without_a_place_is_just_its_reason() -> None:
    assert str(NetsyncError("interrupted")) == "interrupted"


@pytest.mark.parametrize("code", [1, 5, 10, 11, 12, 20, 30, 35])
def test_a_code_from_a_peer_becomes_an_error_with_the_same_code(code: int) -> None:
    assert error_for_exit_code(code).exit_code == code


def test_an_unknown_code_from_a_peer_is_a_protocol_matter() -> None:
    assert error_for_exit_code(77) is ProtocolError


def test_a_full_disk_says_what_to_do() -> None:
    error = root_error(OSError(errno.ENOSPC, "x"), op="write", where=b"a/b")
    assert isinstance(error, RootError)
    assert str(error).startswith("write a/b: no space left on device (free some space")


def test_of_a_group_the_cause_comes_before_its_consequences() -> None:
    lost, silent, full = NetworkError("cut"), StalledError("silent"), RootError("full")
    assert principal(BaseExceptionGroup("", [lost, silent])) is silent
    assert principal(BaseExceptionGroup("", [lost, BaseExceptionGroup("", [full])])) is full


def test_a_defect_in_a_group_is_not_hidden() -> None:
    assert principal(BaseExceptionGroup("", [NetworkError("cut"), KeyError("bug")])) is None
