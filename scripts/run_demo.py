"""The body of scripts/demo: a standby on loopback, a tree pushed, changed, pushed, pulled back."""

import argparse
import os
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

from demonstration import tree
from demonstration.netsync import Netsync
from prepare import debian, venv
from prepare.processes import Process, StepError, exit_on_signals, run, say, step

MIB = 1 << 20


def main() -> None:
    argparse.ArgumentParser(
        prog="scripts/demo",
        description="Install netsync into a temporary directory, start a standby on loopback, "
        "push a tree of some thousand files, change a few, push again, pull it back. "
        "Everything is removed at the end.",
    ).parse_args()
    debian.ensure(
        debian.packages_for_compiling(),
        "without a compiler netsync runs its slower pure Python kernel",
        required=False,
    )
    with tempfile.TemporaryDirectory(prefix="netsync-demo-") as place:
        os.environ["TMPDIR"] = place  # what pip and others leave behind goes the same way
        tour(Path(place))
    say("\nStandby stopped, everything removed.")


def tour(place: Path) -> None:
    netsync = install(place)
    certificates(netsync, place)
    source, standby = place / "primary", place / "standby"
    standby.mkdir()
    say()
    with step("make a tree to push") as remarks:
        packages = next((place / "venv").glob("lib/python*/site-packages"))
        remarks.append(tree.make(source, packages, big_size(place)))
    with serve(netsync, place, standby) as server:
        try:
            address = server.wait_for(r"listening on (\S+)").group(1)
            say(f"  listening on {address}, certificate of standby1\n")
            transfers(netsync, place, f"netsync://{address}/demo/")
        except StepError:
            say(f"\nThe standby said:\n{server.said().strip()}")
            raise


def transfers(netsync: Netsync, place: Path, remote: str) -> None:
    source, standby, back = place / "primary", place / "standby", place / "back"
    mine = ["--identity", f"{place}/identity-primary"]
    say("First push: everything travels.")
    netsync.transfer("push", *mine, f"{source}/", remote)
    say("\nChange a few files:")
    for line in tree.change(source):
        say(f"  {line}")
    say("\nSecond push: only what changed travels.")
    netsync.transfer("push", *mine, "--delete", "-i", f"{source}/", remote)
    same(source, standby)
    say("\nThird push: nothing changed.")
    netsync.transfer("push", *mine, "--delete", "-i", f"{source}/", remote)
    say("\nPull it back into an empty directory.")
    netsync.transfer("pull", *mine, remote, f"{back}/")
    same(source, back)


def install(place: Path) -> Netsync:
    with step("make a virtual environment"):
        python = venv.create(place / "venv")
    with step("pip install ."):
        venv.pip_install(python, venv.copy_of_the_clone(place / "clone"))
    netsync = Netsync(python.parent / "netsync", place)
    netsync.command("--version")
    return netsync


def certificates(netsync: Netsync, place: Path) -> None:
    say("\nOne certificate authority, a certificate for each host.")
    first = ["--identity", f"{place}/identity-standby"]
    netsync.command("cert", "init", *first, "--name", "standby1", "--host", "127.0.0.1")
    netsync.command("cert", "issue", *first, "primary1", "--out", f"{place}/identity-primary")


def serve(netsync: Netsync, place: Path, standby: Path) -> Process:
    words = ["serve", "--listen", "127.0.0.1:0", "--module", f"demo={standby}"]
    words += ["--identity", f"{place}/identity-standby", "--state", f"{place}/state"]
    say("\nThe standby:")
    netsync.show(words)
    return Process([netsync.program, *words], place / "serve.log")


def big_size(place: Path) -> int:
    """100 MiB, or less where the temporary directory is small; it is stored four times."""
    return min(100 * MIB, shutil.disk_usage(place).free // 8)


def same(left: Path, right: Path) -> None:
    """Compare contents with diff, and everything else with rsync if it is installed."""
    commands = [["diff", "-r", "--no-dereference", str(left), str(right)]]
    if shutil.which("rsync"):
        commands.append(["rsync", "-anic", "--delete", f"{left}/", f"{right}/"])
    for command in commands:
        said = run(command, accept=(0, 1)).strip()
        shown = shlex.join(command).replace(str(left.parent), "$DEMO")
        say(f"  $ {shown}")
        if said:
            raise StepError(f"the trees differ:\n{said}")
        say("  no difference")


if __name__ == "__main__":
    exit_on_signals()
    try:
        main()
    except StepError as failure:
        sys.exit(f"scripts/demo: {failure}")
    except KeyboardInterrupt:
        say("scripts/demo: interrupted, everything removed")
        sys.exit(130)
