"""The ``cert`` commands, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from netsync.cli.cert import cert
from netsync.errors import ConfigError, NetsyncError, UsageError
from netsync.identity.directory import load_identity
from netsync.identity.revocation import read_revoked


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(cert, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit | NetsyncError):
        raise result.exception
    return result


def done(*arguments: object) -> str:
    """Run a command that succeeds; return what it prints on stdout."""
    result = run(*arguments)
    assert result.exit_code == 0, result.exception or result.output
    return result.stdout


def failed(*arguments: object) -> NetsyncError:
    """Run a command that fails; return why."""
    error = run(*arguments).exception
    assert isinstance(error, NetsyncError)
    return error


@pytest.fixture
def issuing(tmp_path: Path) -> Path:
    directory = tmp_path / "issuing"
    hosts = ("--host", "127.0.0.1", "--host", "standby1.example")
    done("init", "--identity", directory, "--name", "standby1", *hosts)
    return directory


def test_init_makes_a_working_identity_and_says_what_to_keep(tmp_path: Path) -> None:
    text = done("init", "--identity", tmp_path / "id", "--name", "a", "--host", "a.example")
    assert load_identity(tmp_path / "id").name == "a"
    assert "a for a.example" in text
    assert f"keep {tmp_path / 'id' / 'ca-key.pem'}" in text


def test_init_twice_overwrites_nothing(issuing: Path) -> None:
    error = failed("init", "--identity", issuing, "--name", "again")
    assert type(error) is UsageError
    assert "exists already" in str(error)
    assert load_identity(issuing).name == "standby1"


def test_issue_makes_another_hosts_directory(issuing: Path, tmp_path: Path) -> None:
    text = done("issue", "--identity", issuing, "primary1", "--out", tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"ca.pem", "cert.pem", "key.pem"}
    assert load_identity(tmp_path / "out").name == "primary1"
    assert "can connect but not serve" in text
    assert str(tmp_path / "out") in text


def test_issue_elsewhere_than_on_the_issuing_host_is_refused(issuing: Path, tmp_path: Path) -> None:
    done("issue", "--identity", issuing, "primary1", "--out", tmp_path / "out")
    error = failed("issue", "--identity", tmp_path / "out", "b", "--out", tmp_path / "b")
    assert type(error) is ConfigError
    assert "ca-key.pem" in str(error)
    assert "issuing host" in str(error)


def test_the_identity_comes_from_the_environment(
    issuing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NETSYNC_IDENTITY", str(issuing))
    assert "standby1" in done("show")


def test_show_prints_the_facts(issuing: Path) -> None:
    lines = dict(line.split(None, 1) for line in done("show", "--identity", issuing).splitlines())
    identity = load_identity(issuing)
    assert lines["name"] == "standby1"
    assert lines["hosts"] == "standby1.example 127.0.0.1"
    assert int(lines["serial"], 16) == identity.serial


def test_show_json_is_one_object(issuing: Path) -> None:
    facts = json.loads(done("show", "--identity", issuing, "--json"))
    assert facts["schema"] == "netsync.certificate/1"
    assert facts["hosts"] == ["standby1.example", "127.0.0.1"]
    assert 363 <= facts["days_left"] <= 365
    assert len(facts["fingerprint"].split(":")) == 32
    assert facts["not_after"].endswith("+00:00")


def test_show_without_an_identity_says_how_to_make_one(tmp_path: Path) -> None:
    error = failed("show", "--identity", tmp_path)
    assert type(error) is ConfigError
    assert "cert.pem" in str(error)
    assert "netsync cert init" in str(error)


def test_days_set_the_end(issuing: Path, tmp_path: Path) -> None:
    done("issue", "--identity", issuing, "b", "--days", 10, "--out", tmp_path / "b")
    assert json.loads(done("show", "--identity", tmp_path / "b", "--json"))["days_left"] == 9
    assert run("renew", "--identity", issuing, "--days", 0).exit_code == 2


def test_renew_replaces_the_own_certificate(issuing: Path) -> None:
    before = load_identity(issuing)
    text = done("renew", "--identity", issuing)
    after = load_identity(issuing)
    assert (before.name, before.serial == after.serial) == (after.name, False)
    assert "SIGHUP" in text


def test_renew_for_another_host(issuing: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done("issue", "--identity", issuing, "primary1", "--out", out)
    before = load_identity(out)
    assert str(out) in done("renew", "--identity", issuing, "--out", out)
    assert load_identity(out).serial != before.serial


def test_renew_elsewhere_than_on_the_issuing_host_says_how(issuing: Path, tmp_path: Path) -> None:
    done("issue", "--identity", issuing, "primary1", "--out", tmp_path / "out")
    error = failed("renew", "--identity", tmp_path / "out")
    assert type(error) is UsageError
    assert "netsync cert renew --out" in str(error)


def test_revoke_says_where_to_copy_the_file(issuing: Path, tmp_path: Path) -> None:
    done("issue", "--identity", issuing, "primary1", "--out", tmp_path / "out")
    serial = load_identity(tmp_path / "out").serial
    text = done("revoke", "--identity", issuing, "primary1")
    assert f"revoked {serial:x}" in text
    assert f"copy {issuing / 'revoked'}" in text
    assert "already revoked" in done("revoke", "--identity", issuing, f"{serial:x}")
    assert read_revoked(issuing) == {serial}


def test_a_bad_name_or_host_leaves_nothing_behind(tmp_path: Path) -> None:
    for extra in (("--name", "a b"), ("--name", "a", "--host", "h:1")):
        assert type(failed("init", "--identity", tmp_path / "id", *extra)) is UsageError
    assert not (tmp_path / "id").exists()
