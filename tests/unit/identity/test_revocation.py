"""The file of revoked serials."""

from __future__ import annotations

from pathlib import Path

import pytest

from netsync.errors import ConfigError
from netsync.identity.revocation import add_revoked, parse_revoked, read_revoked


def test_serials_are_hexadecimal_with_colons_case_and_comments_ignored() -> None:
    text = b"# left the company\nAB:cd:0f  # laptop\n\n0xFF\n"
    assert parse_revoked(text, "revoked") == {0xABCD0F, 0xFF}


def test_a_line_of_decimal_digits_revokes_both_readings() -> None:
    assert parse_revoked(b"10\n", "revoked") == {10, 16}


def test_a_line_that_cannot_be_read_is_an_error_and_not_a_comment() -> None:
    with pytest.raises(ConfigError, match="line 2") as caught:
        parse_revoked(b"ab\nprimary1\n", "/etc/x/revoked")
    assert "/etc/x/revoked" in str(caught.value)
    assert caught.value.exit_code == 1


def test_no_file_means_nothing_is_revoked(tmp_path: Path) -> None:
    assert read_revoked(tmp_path) == frozenset()


def test_a_file_others_can_change_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "revoked"
    path.write_text("ab\n")
    path.chmod(0o666)
    with pytest.raises(ConfigError, match="can change it"):
        read_revoked(tmp_path)


def test_adding_keeps_what_is_there_and_is_idempotent(tmp_path: Path) -> None:
    (tmp_path / "revoked").write_text("ab  # by hand, no newline")
    assert add_revoked(tmp_path, [0xAB, 0xCD], "primary1") == [0xCD]
    assert add_revoked(tmp_path, [0xCD], "primary1") == []
    assert read_revoked(tmp_path) == {0xAB, 0xCD}
    assert "by hand" in (tmp_path / "revoked").read_text()
