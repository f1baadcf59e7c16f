"""What is checked before a mount, and who is told to use one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from netsync.errors import UsageError
from netsync.mirror import mounting
from tests.support.trees import needs_mount


@needs_mount
def test_a_directory_under_another_name_is_found(tmp_path: Path) -> None:
    (tmp_path / "data" / "inner").mkdir(parents=True)
    (tmp_path / "alias").mkdir()
    data, alias = os.fsencode(tmp_path / "data"), os.fsencode(tmp_path / "alias")
    subprocess.run(["mount", "--bind", data, alias], check=True)
    try:
        with pytest.raises(UsageError, match="lies in the directory"):
            mounting.check_places(data, alias + b"/inner")
        with pytest.raises(UsageError, match="lies in it"):
            mounting.check_places(alias + b"/inner", data)
    finally:
        subprocess.run(["umount", alias], check=True)


@needs_mount
def test_the_kind_of_a_mount_is_found_whatever_its_name(tmp_path: Path) -> None:
    odd = tmp_path / "with space\tand\\more"
    odd.mkdir()
    assert mounting.mounted_on(os.fsencode(odd)) == ""
    subprocess.run(["mount", "-t", "tmpfs", "none", odd], check=True)
    try:
        assert mounting.mounted_on(os.fsencode(odd)) == "tmpfs"
        assert not mounting.clear_dead(os.fsencode(odd))
        with odd.joinpath("used").open("w"), pytest.raises(mounting.Busy):
            mounting.unmount(os.fsencode(odd))
    finally:
        subprocess.run(["umount", odd], check=True)


def test_who_uses_a_directory_is_found(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w"):
        users = mounting.users_of(os.fsencode(tmp_path))
    assert os.getpid() in [user.pid for user in users]
    assert users[0].name
    assert mounting.users_of(os.fsencode(tmp_path)) == []


def test_without_the_extra_the_command_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['pyfuse3'] = None\n"
        "from netsync.cli.main import run\n"
        f"sys.exit(run(['mirror', {str(tmp_path)!r}, 'h::m', '--mount', {str(tmp_path)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'netsync[fuse]'" in done.stderr
    assert "libfuse3-dev" in done.stderr
    assert done.stderr.count("\n") == 1
