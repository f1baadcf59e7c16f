"""What users and their scripts read: exit codes, the report, itemized lines, errors."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, Final

import pytest

from netsync import __version__
from netsync.delta import kernel
from tests.support.certificates import certificates
from tests.support.places import MODULE, ROUTES, Place, Standby
from tests.support.processes import Result, netsync, running, succeed
from tests.support.samples import PRIVILEGED, build_tree, names, random_bytes, snapshot, write

COUNTERS: Final = [
    "considered", "created", "updated", "metadata", "deleted", "unchanged", "failed",
]  # fmt: skip
SIZES: Final = ["total", "literal", "matched", "wire_sent", "wire_received"]
KEYS: Final = [
    "schema", "command", "result", "files", "bytes", "seconds", "durable", "dry_run", "kernel",
    "problems",
]  # fmt: skip


def assert_report(result: Result, /, **expected: Any) -> dict[str, Any]:
    """The report is one object of the contract's shape, its counters add up; return it."""
    documents = [line for line in result.stdout.splitlines() if line.startswith("{")]
    assert len(documents) == 1
    assert result.stdout.endswith(documents[0] + "\n")
    report = result.report
    assert set(KEYS) <= set(report)
    assert list(report["files"]) == COUNTERS
    assert list(report["bytes"]) == SIZES
    assert report["schema"] == "netsync.report/1"
    assert report["kernel"] == kernel.NAME
    assert isinstance(report["seconds"], float)
    files = report["files"]
    settled = ("created", "updated", "metadata", "unchanged", "failed")
    assert files["considered"] == sum(files[name] for name in settled)
    for problem in report["problems"]:
        assert set(problem) == {"path", "op", "error"}
    for name, value in expected.items():
        assert report[name] == value, name
    return report


def assert_one_error(result: Result, code: int, *words: str) -> None:
    """The command failed with one line on stderr that holds ``words``."""
    assert result.code == code, result
    assert result.stderr.startswith("netsync: ")
    assert result.stderr.count("\n") == 1, result.stderr
    assert result.stderr.endswith("\n")
    for word in words:
        assert word in result.stderr


@pytest.fixture
def changed(place: Place) -> Place:
    """A source and a target that differ in every way that has a change code."""
    source = {"new": "1", "newdir/f": "2", "size": "longer", "same": "s", "mode": "m", "d/in": "3"}
    write(place.path / "source", source)
    write(place.path / "target", {"size": "s", "gone": "x", "gonedir/x/y": "y"})
    write(place.path / "target", {"same": "s", "mode": "m", "d/in": "3"})
    for name in ("same", "mode", "d/in", "d", ""):
        for root in ("source", "target"):
            os.utime(place.path / root / name, ns=(0, 1_600_000_000_000_000_000))
    (place.path / "source" / "mode").chmod(0o600)
    (place.path / "source" / "d").chmod(0o700)
    return place


CHANGES: Final = [
    "+ new", "+ newdir/", "+ newdir/f", "- gone", "- gonedir/", "- gonedir/x/", "- gonedir/x/y",
    ". d/", ". mode", "> size",
]  # fmt: skip


@pytest.mark.parametrize("route", ROUTES)
def test_a_dry_run_says_what_the_real_run_does(changed: Place, route: str) -> None:
    """Same lines, same counters, nothing touched; then the real run with lines as promised."""
    before = snapshot(changed.path)
    dry = changed.transfer(route, "-n", "-i", "--delete")
    assert snapshot(changed.path) == before
    real = changed.transfer(route, "-i", "--delete", durable=True)
    assert (dry.code, dry.stderr) == (real.code, real.stderr) == (0, "")
    assert dry.changes == real.changes == CHANGES
    command = "pull" if route == "pull" else "push"
    promised = assert_report(dry, command=command, dry_run=True, durable=False, result="ok")
    kept = assert_report(real, command=command, dry_run=False, durable=True, result="ok")
    assert promised["files"] == kept["files"] == {
        "considered": 8, "created": 3, "updated": 1, "metadata": 2, "deleted": 4, "unchanged": 2,
        "failed": 0,
    }  # fmt: skip
    assert promised["bytes"]["total"] == kept["bytes"]["total"] == 11
    assert kept["bytes"]["literal"] == 8
    assert promised["bytes"]["literal"] == 0
    again = changed.transfer(route, "-i", "--delete")
    assert again.changes == []


@pytest.mark.parametrize("route", ROUTES)
def test_a_dry_run_onto_nothing_lists_everything(place: Place, route: str) -> None:
    """A missing destination is not made, and every path is promised."""
    source = build_tree(place.path / "source", 3, large=False)
    dry = place.transfer(route, "-n", "-i")
    assert (dry.code, dry.stderr) == (0, "")
    assert not (place.path / "target").exists()
    real = place.transfer(route, "-i")
    assert dry.changes == real.changes
    assert len(real.changes) == len(names(source))
    assert dry.files == real.files


def test_itemized_lines_escape_what_a_terminal_would_obey(place: Place) -> None:
    r"""Control characters, backslashes and undecodable bytes appear as ``\ooo`` or doubled."""
    source = os.fsencode(place.path / "source")
    os.mkdir(source)
    for name in (b"a\nb", b"c\x1b[1m", b"\xff", b"back\\slash", b"caf\xc3\xa9", b"\x7f"):
        with open(source + b"/" + name, "xb"):
            pass
    os.mkdir(source + b"/d\ti")
    result = place.transfer("push", "-i")
    assert result.changes == sorted(
        [
            "+ a\\012b",
            "+ c\\033[1m",
            "+ \\377",
            "+ back\\\\slash",
            "+ café",
            "+ \\177",
            "+ d\\011i/",
        ]
    )


def test_problems_carry_any_name(place: Place) -> None:
    """Names that are not UTF-8 appear in JSON as surrogate escapes, in errors escaped."""
    source = os.fsencode(place.path / "source")
    for directory in (source + b"/d\xff\n", os.fsencode(place.path / "target") + b"/d\xff\n/x"):
        os.makedirs(directory)
    with open(source + b"/d\xff\n/x", "xb"):
        pass
    with open(os.fsencode(place.path / "target") + b"/d\xff\n/x/in", "xb"):
        pass
    result = place.transfer("push", "-i")
    report = assert_report(result, result="partial")
    assert [problem["path"] for problem in report["problems"]] == ["d\udcff\n/x"]
    assert_one_error(result, 23, "d\\377\\012/x")
    assert "! d\\377\\012/x" in result.changes


def test_a_failed_run_reports_too(place: Place) -> None:
    """A run that ends early prints its object and its one line."""
    result = place.transfer("push", source="missing")
    report = assert_report(result, result="failed", durable=False)
    assert report["problems"][0]["path"].endswith("missing")
    assert_one_error(result, 11, "missing: no such file or directory")


def test_wire_bytes_are_counted_where_there_is_a_wire(place: Place) -> None:
    """More than the data for push and pull, exactly nothing for a local copy."""
    write(place.path / "source", {"f": random_bytes(200_000, 1)})
    push = place.transfer("push", target="1").bytes
    pull = place.transfer("pull", target="2").bytes
    local = place.transfer("local", target="3").bytes
    for size in (push, pull, local):
        assert size["total"] == size["literal"] == 200_000
        assert size["matched"] == 0
    assert 200_000 < push["wire_sent"] < 220_000
    assert push["wire_received"] < 20_000
    assert 200_000 < pull["wire_received"] < 220_000
    assert pull["wire_sent"] < 20_000
    assert local["wire_sent"] == local["wire_received"] == 0


def test_matched_and_literal_make_the_file(place: Place) -> None:
    """What was found on the target and what travelled add up to the files requested."""
    source = write(place.path / "source", {"f": random_bytes(500_000, 1)})
    place.transfer("push")
    (source / "f").write_bytes(random_bytes(500_000, 1)[:250_000] + b"x" * 7 + random_bytes(99, 3))
    size = place.transfer("push").bytes
    assert size["matched"] > 200_000
    assert size["literal"] + size["matched"] == size["total"]


def test_not_durable_without_fsync(place: Place) -> None:
    """--no-fsync does not wait for the disk, and the report admits it."""
    write(place.path / "source", {"f": "1"})
    assert_report(place.transfer("push", "--no-fsync"), durable=False)
    assert_report(place.transfer("push", durable=True), durable=True)


def test_quiet_prints_nothing_and_errors_remain(place: Place) -> None:
    """-q prints nothing on success, even with -i and --stats; problems stay visible."""
    write(place.path / "source", {"f": "1", "x": "2"})
    quiet = ("push", "-q", "-i", "--stats", f"{place.path}/source/", f"{place.url}/target")
    assert succeed(*quiet).stdout == ""
    write(place.path / "target2", {"x/in": "3"})
    result = netsync(*quiet[:-1], f"{place.url}/target2")
    assert result.stdout == ""
    assert_one_error(result, 23, "x: ")


def test_nothing_is_printed_unless_asked(place: Place) -> None:
    """A plain run in a pipe is silent."""
    write(place.path / "source", {"f": "1"})
    assert succeed("push", f"{place.path}/source", f"{place.url}/target").stdout == ""


def test_stats_print_the_counters(place: Place) -> None:
    """--stats prints one counter a line, for people."""
    write(place.path / "source", {"f": "x" * 12_345})
    lines = succeed(
        "push", "--stats", f"{place.path}/source", f"{place.url}/target"
    ).stdout.splitlines()
    found = {name: value.strip() for name, value in (line.rsplit(":", 1) for line in lines)}
    assert found["created"] == "2"
    assert found["total size"] == "12,345"
    assert found["literal data"] == "12,345"
    assert found["delta kernel"] == kernel.NAME


def test_the_version_names_the_kernel() -> None:
    """``--version`` tells version, protocol, Python, OpenSSL and kernel in one line."""
    with running("--version") as process:
        result = process.wait()
    assert (result.code, result.stderr) == (0, "")
    assert re.fullmatch(
        rf"netsync {re.escape(__version__)}, protocol \d+, Python 3[.\d]+\S*, OpenSSL .*, "
        rf"delta kernel {kernel.NAME}\n",
        result.stdout,
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("push", "--no-such-option", "a", "b"), ("--no-such-option", "netsync push --help")),
        (("push", "-Y", "a", "b"), ("-Y",)),
        (("nonsense",), ("nonsense",)),
        (("push",), ("SRC",)),
        (("push", "a"), ("destination",)),
        (("push", "a", "--exclude"), ("--exclude",)),
        (("push", "--bwlimit", "fast", "a", "b"), ("--bwlimit", "fast")),
        (("push", "--timeout", "soon", "a", "b"), ("--timeout", "soon")),
        (("push", "--timeout", "0", "a", "b"), ("--timeout",)),
        (("push", "--block-size", "1000", "a", "b"), ("--block-size",)),
        (("push", "--compress", "99", "a", "b"), ("--compress",)),
        (("push", "a", "::m"), ("host",)),
        (("push", "h::m", "a"), ("pull",)),
        (("pull", "a", "h::m"), ("push",)),
        (("push", "h::m/a", "h::m/b"), ("remote",)),
        (("pull", "h::m/a", "b", "c"), ("all local or all remote",)),
        (("pull", "h::m/a", "g::m/b", "c"), ("one server",)),
        (("ls", "/local"), ("not a remote address",)),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_one_line_and_exit_code_1(
    arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    """Exit code 1; the line names what was wrong."""
    assert_one_error(netsync(*arguments), 1, *words)


@pytest.mark.parametrize(
    "options",
    [
        ("-avz",), ("-rlptgoD",), ("-aHAXS",), ("-ahP",), ("--archive", "--partial"), ("-auW",),
        ("--recursive", "--links", "--perms", "--times", "--group", "--owner"),
        ("-ac", "--delete", "--stats", "--human-readable"), ("-azn", "-i"), ("-aq",),
        ("--bwlimit=10M", "--timeout=20", "--modify-window=1"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_rsyncs_flags_are_accepted(place: Place, options: tuple[str, ...]) -> None:
    """Wrappers written for rsync keep working, flags alone or bundled."""
    write(place.path / "source", {"f": "1"})
    result = netsync("push", *options, f"{place.path}/source/", f"{place.url}/target")
    assert result.code == 0, result.stderr
    assert (place.path / "target" / "f").exists() is ("-azn" not in options)


def test_verbose_prints_changes_and_statistics(place: Place) -> None:
    """-v is -i and --stats."""
    write(place.path / "source", {"f": "1"})
    lines = succeed(
        "push", "-av", f"{place.path}/source", f"{place.url}/target"
    ).stdout.splitlines()
    assert {"+ source/", "+ source/f"} < set(lines)
    assert any(line.startswith("created:") for line in lines)


def test_modify_window_counts_near_times_as_equal(place: Place) -> None:
    """Times less than the window apart are not a difference."""
    source = write(place.path / "source", {"f": "1"})
    place.transfer("push")
    now = (source / "f").stat().st_mtime_ns
    os.utime(source / "f", ns=(now, now + 900_000_000))
    assert place.transfer("push", "-i", "--modify-window", "1s").changes == []
    assert place.transfer("push", "-i").changes == ["> f"]


@pytest.mark.parametrize("pattern", ["", "#", "!x", "a[", "**a[z-"])
def test_a_pattern_that_cannot_be_is_wrong_usage(place: Place, pattern: str) -> None:
    """Nothing is copied with a rule that was not understood; a lone bracket stands for itself."""
    write(place.path / "source", {"f": "1"})
    result = place.transfer("local", "--exclude", pattern)
    if "[" in pattern:
        assert result.code == 0
    else:
        assert_one_error(result, 1, "pattern")
        assert not (place.path / "target").exists() or names(place.path / "target") == set()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--module", "broken"), "NAME=PATH"),
        (("--module", "m=/tmp", "--listen", "nonsense:port"), "nonsense:port"),
        (("--module", "m=/tmp", "--config", "/nowhere/x.toml"), "/nowhere/x.toml"),
    ],
)
def test_a_server_that_cannot_start_says_why(arguments: tuple[str, ...], word: str) -> None:
    """Exit code 1 and one line of error, whatever was said before."""
    result = netsync("serve", *arguments, identity=certificates().issuing)
    errors = [line for line in result.stderr.splitlines() if line.startswith("netsync: ")]
    assert (result.code, len(errors)) == (1, 1), result
    assert word in errors[0]


# ls


def rows(*arguments: str) -> list[dict[str, Any]]:
    """Return the objects that a command prints, one a line."""
    return [json.loads(line) for line in succeed(*arguments).stdout.splitlines()]


def test_ls_shows_the_modules_and_rights(standby: Standby) -> None:
    """``ls HOST::`` prints a line a module; --json an object a line."""
    plain = succeed("ls", standby.server.url())
    assert plain.stdout.split() == [MODULE, "delete,mirror,pull,push"]
    rows = [
        json.loads(line)
        for line in succeed("ls", "--json", standby.server.url()).stdout.splitlines()
    ]
    assert rows == [{"module": MODULE, "rights": ["delete", "mirror", "pull", "push"]}]


def test_ls_shows_the_entries_of_a_path(place: Place) -> None:
    """``TYPE MODE SIZE MTIME NAME`` a line, sorted by name, names escaped."""
    root = write(place.path, {"d": None, "f": "12345", "new\nline": ""})
    (root / "l").symlink_to("f")
    os.mkfifo(root / "p")
    (root / "f").chmod(0o640)
    os.utime(root / "f", ns=(0, 1_600_000_000_000_000_000))
    lines = succeed("ls", place.url).stdout.splitlines()
    fields = [line.split(None, 4) for line in lines]
    assert [each[0] for each in fields] == ["d", "-", "l", "-", "p"]
    assert [each[4] for each in fields] == ["d", "f", "l -> f", "new\\012line", "p"]
    assert fields[1][1:3] == ["rw-r-----", "5"]
    assert re.fullmatch(r"2020-09-1[34]T\d\d:\d\d:\d\d", fields[1][3])
    assert succeed("ls", f"{place.url}/f").stdout.split()[-1] == "f"


def test_ls_as_json_is_an_object_a_line(place: Place) -> None:
    """Names, kinds, modes, sizes and nanoseconds for programs."""
    root = write(place.path, {"f": "12345"})
    (root / "l").symlink_to("f")
    os.chmod(root / "f", 0o4755 if PRIVILEGED else 0o755)
    os.utime(root / "f", ns=(0, -1))
    first, second = (
        json.loads(line) for line in succeed("ls", "--json", place.url).stdout.splitlines()
    )
    mode = "4755" if PRIVILEGED else "0755"
    assert first == {"name": "f", "type": "file", "mode": mode, "size": 5, "mtime_ns": -1}
    assert (second["name"], second["type"], second["target"]) == ("l", "symlink", "f")


def test_ls_of_a_large_directory_is_whole(place: Place) -> None:
    """Many entries arrive in several messages and in order."""
    expected = [f"{'n' * 200}{index:05}" for index in range(1500)]
    write(place.path, dict.fromkeys(expected, ""))
    found = [
        json.loads(line)["name"] for line in succeed("ls", "--json", place.url).stdout.splitlines()
    ]
    assert found == expected


def test_ls_of_what_is_not_there_is_an_error(place: Place) -> None:
    """A missing path 11, an unknown module 5."""
    assert_one_error(netsync("ls", f"{place.url}/missing"), 11, "missing")
    other = place.url.replace(f"/{MODULE}/", "/other/")
    assert_one_error(netsync("ls", other), 5, "other", "no such module")


def test_progress_goes_to_stderr_only(place: Place) -> None:
    """--progress draws on stderr and leaves the results on stdout alone."""
    write(place.path / "source", {"f": "1"})
    result = place.transfer("push", "--progress", "-i")
    assert result.code == 0
    assert result.changes == ["+ f"]
    assert_report(result)
    assert result.stderr


def test_config_check_prints_the_effective_values(tmp_path: Path) -> None:
    """``config check FILE`` validates without starting anything."""
    file = tmp_path / "netsync.toml"
    file.write_text(f'[module.web]\npath = "{tmp_path}"\nallow = {{ primary1 = ["push"] }}\n')
    result = succeed("config", "check", file)
    assert "0.0.0.0:7873" in result.stdout
    assert f"web = {tmp_path}" in result.stdout
    assert "primary1: push" in result.stdout
