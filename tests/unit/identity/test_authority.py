"""Making, renewing and revoking certificates."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from netsync.errors import ConfigError, NetsyncError, RefusedError, UsageError
from netsync.identity import authority
from netsync.identity.builder import Subject
from netsync.identity.certificate import read_certificate, read_x509
from netsync.identity.directory import load_identity
from netsync.identity.revocation import read_revoked, serial_text
from tests.support.certificates import LOOPBACK, make_authority


@pytest.fixture
def issuing(tmp_path: Path) -> Path:
    return make_authority(tmp_path / "issuing")


def purposes(path: Path) -> set[x509.ObjectIdentifier]:
    found = read_x509(path)[0].extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    return set(found.value)


def test_a_ca_comes_with_the_identity_of_its_host(issuing: Path) -> None:
    own = read_certificate(issuing / "cert.pem")
    assert own.name == "standby1"
    assert set(own.hosts) == set(LOOPBACK)
    assert load_identity(issuing).serial == own.serial
    (ca,) = read_x509(issuing / "ca.pem")
    assert ca.not_valid_after_utc - datetime.now(UTC) > timedelta(days=3650)


def test_keys_are_for_the_owner_only_in_a_directory_for_the_owner_only(issuing: Path) -> None:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in issuing.iterdir()}
    assert modes.pop("key.pem") == modes.pop("ca-key.pem") == 0o600
    assert set(modes.values()) == {0o644}
    assert stat.S_IMODE(issuing.stat().st_mode) == 0o700
    assert not [name for name in modes if name.startswith(".")], "a temporary file was left"


def test_only_a_certificate_with_hosts_may_serve(issuing: Path, tmp_path: Path) -> None:
    authority.issue(issuing, Subject("primary1"), tmp_path / "out")
    assert purposes(tmp_path / "out" / "cert.pem") == {ExtendedKeyUsageOID.CLIENT_AUTH}
    both = {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}
    assert purposes(issuing / "cert.pem") == both


def test_an_issued_directory_holds_no_ca_key_and_works(issuing: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    authority.issue(issuing, Subject("primary1"), out)
    assert {path.name for path in out.iterdir()} == {"ca.pem", "cert.pem", "key.pem"}
    assert load_identity(out).name == "primary1"


def test_nothing_that_exists_is_overwritten(issuing: Path, tmp_path: Path) -> None:
    before = (issuing / "key.pem").read_bytes()
    with pytest.raises(UsageError, match="exists already"):
        authority.create(issuing, Subject("again"))
    with pytest.raises(UsageError, match="exists already") as caught:
        authority.issue(issuing, Subject("primary1"), issuing)
    assert caught.value.exit_code == 1
    assert str(issuing) in str(caught.value)
    assert (issuing / "key.pem").read_bytes() == before
    assert len(authority.issued(issuing)) == 1


def test_issuing_without_the_ca_key_says_where_it_is(issuing: Path, tmp_path: Path) -> None:
    (issuing / "ca-key.pem").unlink()
    with pytest.raises(ConfigError, match=r"ca-key\.pem.*only the issuing host"):
        authority.issue(issuing, Subject("primary1"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_ca_key_others_can_read_is_refused(issuing: Path, tmp_path: Path) -> None:
    (issuing / "ca-key.pem").chmod(0o640)
    with pytest.raises(ConfigError, match=r"ca-key\.pem.*chmod 600"):
        authority.issue(issuing, Subject("primary1"), tmp_path / "out")


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "a/b", "né"])
def test_a_bad_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="no certificate name"):
        Subject(name)


@pytest.mark.parametrize("host", ["", "a b", "host:7873", "-a", "ä.example", "a..b", "*.example"])
def test_a_bad_host_is_refused(host: str) -> None:
    with pytest.raises(UsageError, match="no host name or address"):
        Subject("a", (host,))


def test_hosts_are_names_and_addresses(issuing: Path, tmp_path: Path) -> None:
    made = authority.issue(
        issuing, Subject("a", ("DB1.example.", "192.0.2.7", "[2001:db8::1]")), tmp_path / "out"
    )
    assert made.hosts == ("db1.example", "192.0.2.7", "2001:db8::1")


def test_renewing_makes_a_new_key_and_serial_for_the_same_name_and_hosts(issuing: Path) -> None:
    before = load_identity(issuing)
    authority.renew(issuing, issuing)
    after = load_identity(issuing)
    assert (after.name, read_certificate(issuing / "cert.pem").hosts) == (
        before.name,
        LOOPBACK[2:] + LOOPBACK[:2],
    )
    assert after.serial != before.serial
    assert after.key_pem != before.key_pem
    assert stat.S_IMODE((issuing / "key.pem").stat().st_mode) == 0o600
    assert not (issuing / "key.pem.new").exists()


def test_another_hosts_certificate_is_renewed_from_its_certificate(
    issuing: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    authority.issue(issuing, Subject("primary1"), out)
    (out / "key.pem").unlink()
    authority.renew(issuing, out)
    assert load_identity(out).name == "primary1"


def test_a_certificate_of_another_ca_is_not_renewed(issuing: Path, tmp_path: Path) -> None:
    foreign = make_authority(tmp_path / "foreign")
    with pytest.raises(UsageError, match="not issued by the CA"):
        authority.renew(issuing, foreign)


def test_a_renewal_cut_between_its_files_leaves_a_working_identity(
    issuing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("netsync.identity.files.rename", cut)
        with pytest.raises(KeyboardInterrupt):
            authority.renew(issuing, issuing)
    assert (issuing / "key.pem.new").exists()
    assert load_identity(issuing).serial == read_certificate(issuing / "cert.pem").serial
    authority.renew(issuing, issuing)
    assert not (issuing / "key.pem.new").exists()
    load_identity(issuing)


def test_a_certificate_never_outlives_its_ca(issuing: Path, tmp_path: Path) -> None:
    made = authority.issue(issuing, Subject("a", lifetime=timedelta(days=9000)), tmp_path / "out")
    assert made.not_after <= read_x509(issuing / "ca.pem")[0].not_valid_after_utc


def test_an_expired_ca_issues_nothing(tmp_path: Path) -> None:
    old = datetime.now(UTC) - timedelta(days=4000)
    authority.create(tmp_path / "old", Subject("a"), old)
    with pytest.raises(RefusedError, match="CA has expired"):
        authority.issue(tmp_path / "old", Subject("b"), tmp_path / "out")


def test_revoking_by_name_takes_every_certificate_of_that_name(
    issuing: Path, tmp_path: Path
) -> None:
    first = authority.issue(issuing, Subject("primary1"), tmp_path / "out")
    second = authority.renew(issuing, tmp_path / "out")
    meant, fresh = authority.revoke(issuing, "primary1")
    assert meant == fresh == [first.serial, second.serial]
    assert read_revoked(issuing) == {first.serial, second.serial}
    assert authority.revoke(issuing, "primary1") == (meant, [])


def test_revoking_by_serial_and_by_path(issuing: Path, tmp_path: Path) -> None:
    made = authority.issue(issuing, Subject("primary1"), tmp_path / "out")
    for what in (serial_text(made.serial), str(tmp_path / "out"), str(made.path)):
        assert authority.revoke(issuing, what)[0] == [made.serial]
    assert authority.revoke(issuing, "ab" * 16)[1] == [int("ab" * 16, 16)]


@pytest.mark.parametrize("what", ["cafe", "nobody", "no/such/cert.pem", ""])
def test_a_typing_error_revokes_nothing(issuing: Path, what: str) -> None:
    with pytest.raises(UsageError, match="no name issued here"):
        authority.revoke(issuing, what)
    assert read_revoked(issuing) == frozenset()


def test_two_cas_side_by_side_issue_with_the_one_whose_key_is_there(tmp_path: Path) -> None:
    old, new = make_authority(tmp_path / "old"), make_authority(tmp_path / "new")
    both = (old / "ca.pem").read_bytes() + (new / "ca.pem").read_bytes()
    for directory in (old, new):
        (directory / "ca.pem").write_bytes(both)
    authority.renew(new, old)
    moved = load_identity(old)
    assert moved.ca_pem == both
    read_x509(old / "cert.pem")[0].verify_directly_issued_by(read_x509(old / "ca.pem")[1])


def test_a_file_that_is_no_key_is_named(issuing: Path, tmp_path: Path) -> None:
    (issuing / "ca-key.pem").write_text("rubbish")
    with pytest.raises(NetsyncError, match=r"ca-key\.pem"):
        authority.issue(issuing, Subject("b"), tmp_path / "out")
