"""Loading an identity, and every reason not to."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from netsync.errors import ConfigError, RefusedError
from netsync.identity import authority
from netsync.identity.builder import Subject
from netsync.identity.directory import default_directory, load_identity
from tests.support.certificates import certificates, issue, make_authority


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    issue(tmp_path / "id")
    return tmp_path / "id"


def refused(directory: Path, *words: str) -> None:
    """Expect a ``ConfigError`` that says all ``words``."""
    with pytest.raises(ConfigError) as caught:
        load_identity(directory)
    assert caught.value.exit_code == 1
    for word in words:
        assert word in str(caught.value)


def test_an_identity_knows_its_name_and_serial(directory: Path) -> None:
    identity = load_identity(directory)
    assert identity.name == "primary1"
    assert identity.serial in dict(authority.issued(certificates().issuing))
    assert identity.revoked == frozenset()


def test_the_private_key_does_not_show_in_a_representation(directory: Path) -> None:
    assert "PRIVATE" not in repr(load_identity(directory))


def test_revoked_serials_are_part_of_it(directory: Path) -> None:
    (directory / "revoked").write_text("abc\n")
    assert load_identity(directory).revoked == {0xABC}


@pytest.mark.parametrize("name", ["ca.pem", "cert.pem", "key.pem"])
def test_a_missing_file_is_named(directory: Path, name: str) -> None:
    (directory / name).unlink()
    refused(directory, name, "no such file", "netsync cert")


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    refused(tmp_path / "none", str(tmp_path / "none"), "no such directory", "cert init")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601])
def test_a_key_others_can_read_is_refused(directory: Path, mode: int) -> None:
    (directory / "key.pem").chmod(mode)
    refused(directory, "key.pem", "chmod 600")


@pytest.mark.parametrize("name", ["ca.pem", "cert.pem"])
def test_a_certificate_others_can_change_is_refused(directory: Path, name: str) -> None:
    (directory / name).chmod(0o664)
    refused(directory, name, "can change it", "chmod go-w")


def test_a_directory_others_can_write_to_is_refused(directory: Path) -> None:
    directory.chmod(0o777)
    refused(directory, str(directory), "chmod go-w")
    directory.chmod(0o755)
    load_identity(directory)


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a file away needs root")
def test_a_key_of_another_user_is_refused(directory: Path) -> None:
    os.chown(directory / "key.pem", 12345, -1)
    refused(directory, "key.pem", "user 12345")


def test_a_key_that_does_not_fit_is_refused(directory: Path, tmp_path: Path) -> None:
    issue(tmp_path / "other")
    (directory / "key.pem").write_bytes((tmp_path / "other" / "key.pem").read_bytes())
    refused(directory, "key.pem", "does not belong")


def test_a_certificate_of_another_ca_is_refused(directory: Path) -> None:
    (directory / "ca.pem").write_bytes(certificates().stranger.ca_pem)
    refused(directory, "cert.pem", "not issued by the CA")


@pytest.mark.parametrize("name", ["ca.pem", "cert.pem", "key.pem"])
@pytest.mark.parametrize(
    "content", [b"", b"rubbish\n", b"\xff\xfe", b"-----BEGIN CERTIFICATE-----"]
)
def test_rubbish_is_named(directory: Path, name: str, content: bytes) -> None:
    (directory / name).write_bytes(content)
    refused(directory, name)


def test_an_encrypted_key_asks_nobody_for_a_password(directory: Path) -> None:
    text = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n"
    (directory / "key.pem").write_text(text)
    refused(directory, "key.pem", "encrypted")


def test_a_fifo_in_place_of_a_key_does_not_hang(directory: Path) -> None:
    (directory / "key.pem").unlink()
    os.mkfifo(directory / "key.pem", 0o600)
    refused(directory, "key.pem", "not a regular file")


def test_an_own_certificate_that_has_expired_is_a_refusal_with_a_remedy(tmp_path: Path) -> None:
    issue(tmp_path / "id", starts_in_days=-20, days=10)
    with pytest.raises(RefusedError, match=r"cert\.pem: the certificate has expired") as caught:
        load_identity(tmp_path / "id")
    assert caught.value.exit_code == 5
    assert "netsync cert renew" in caught.value.hint


def test_an_expired_ca_is_told_from_an_expired_certificate(tmp_path: Path) -> None:
    long_ago = datetime.now(UTC) - timedelta(days=4000)
    authority.create(tmp_path / "id", Subject("a"), long_ago)
    with pytest.raises(RefusedError, match=r"ca\.pem: the CA has expired"):
        load_identity(tmp_path / "id")


def test_a_certificate_of_tomorrow_is_not_valid_yet(tmp_path: Path) -> None:
    issue(tmp_path / "id", starts_in_days=1)
    refused(tmp_path / "id", "cert.pem", "not valid yet", "clock")


def test_two_cas_in_one_file_are_both_trusted(directory: Path, tmp_path: Path) -> None:
    other = make_authority(tmp_path / "other")
    own_ca = (directory / "ca.pem").read_bytes()
    (directory / "ca.pem").write_bytes((other / "ca.pem").read_bytes() + own_ca)
    assert load_identity(directory).name == "primary1"


def test_loading_does_not_import_cryptography(directory: Path) -> None:
    program = (
        "import sys, pathlib; import netsync.cli.cert, netsync.net.dial, netsync.identity.peer\n"
        "from netsync.identity.directory import load_identity\n"
        "load_identity(pathlib.Path(sys.argv[1])); sys.exit('cryptography' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, str(directory)], check=True)


def test_the_default_follows_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert default_directory() == Path("/etc/netsync/identity")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_CONFIG_HOME", "/x")
    assert default_directory() == Path("/x/netsync/identity")
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/u")
    assert default_directory() == Path("/home/u/.config/netsync/identity")
