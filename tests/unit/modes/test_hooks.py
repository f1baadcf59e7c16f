"""Hooks: arguments as they are, facts on stdin, a limit in time, and an end for what they began."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import trio

from netsync.modes.hooks import run_hook
from netsync.modes.job import Hooks
from netsync.plan.schedule import Schedule
from tests.support.fake_jobs import EPOCH, Bench

PYTHON = sys.executable


async def hook(code: str, *arguments: str, seconds: float = 20.0) -> str:
    return await run_hook([PYTHON, "-c", code, *arguments], {"job": "web"}, seconds)


async def test_arguments_meet_no_shell_and_facts_come_on_stdin(tmp_path: Path) -> None:
    out = tmp_path / "out"
    code = "import sys; open(sys.argv[1], 'w').write(sys.argv[2] + sys.stdin.read())"
    assert await hook(code, str(out), "$(id); `x`\n") == ""
    argument, document = out.read_text().splitlines()
    assert argument == "$(id); `x`"
    assert json.loads(document) == {"schema": "netsync.hook/1", "job": "web"}


async def test_a_hook_that_fails_is_one_line_with_its_last_words() -> None:
    said = await hook("print('first'); print('disk \\x1b[31mfull'); raise SystemExit(3)")
    assert said == f"{PYTHON} ended with 3: disk \\033[31mfull"


async def test_a_hook_that_is_killed_or_not_there_is_said() -> None:
    assert "was killed by signal 9" in await hook("import os; os.kill(os.getpid(), 9)")
    missing = await run_hook(["/nowhere/x"], {}, 1.0)
    assert missing == "/nowhere/x cannot be run: no such file or directory"


async def test_a_hook_need_not_read_its_facts_and_may_say_much() -> None:
    facts = {"job": "x" * 1_000_000}
    code = "import sys; sys.stdin.close(); print('y' * 3_000_000)"
    assert await run_hook([PYTHON, "-c", code], facts, 20.0) == ""


async def test_a_hook_that_takes_too_long_is_ended_with_what_it_started(tmp_path: Path) -> None:
    """It ignores SIGTERM, and so does its child: neither is left."""
    out = tmp_path / "pids"
    code = (
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = os.fork()\n"
        "if child: open(sys.argv[1], 'w').write(f'{os.getpid()} {child}')\n"
        "time.sleep(60)\n"
    )
    with trio.fail_after(20):
        said = await hook(code, str(out), seconds=1.0)
    assert "was ended after 1s (hook_timeout allows more)" in said
    for pid in map(int, out.read_text().split()):
        with trio.fail_after(5):
            while _lives(pid):
                await trio.sleep(0.01)


async def test_a_child_that_ignores_the_end_of_its_hook_is_killed(tmp_path: Path) -> None:
    """The hook dies of SIGTERM at once; its child does not."""
    out = tmp_path / "pid"
    code = (
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = os.fork()\n"
        "if child:\n"
        "    signal.signal(signal.SIGTERM, signal.SIG_DFL)\n"
        "    open(sys.argv[1], 'w').write(str(child))\n"
        "time.sleep(20)\n"
    )
    await hook(code, str(out), seconds=1.0)
    with trio.fail_after(5):
        while _lives(int(out.read_text())):
            await trio.sleep(0.01)


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def test_a_child_that_keeps_the_output_open_holds_up_nobody() -> None:
    code = "import os, time\nif not os.fork():\n time.sleep(5); os._exit(0)\n"
    with trio.fail_after(4):
        assert await hook(code) == ""


async def run_with(tmp_path: Path, pre: str, post: str) -> tuple[Bench, list[dict[str, object]]]:
    """Run a job once with hooks that write down what they are told; return it and that."""
    log = tmp_path / "log"
    write = f"import sys; open({str(log)!r}, 'a').write(sys.stdin.read());"
    hooks = Hooks((PYTHON, "-c", write + pre), (PYTHON, "-c", write + post))
    bench = Bench(tmp_path, seconds=0.0)
    bench.ahead = EPOCH - trio.current_time()
    runner = bench.runner(bench.job(Schedule(every=3600.0), hooks=hooks))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(runner.work)
        with trio.fail_after(20):
            while bench.standing.ended is None:
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    return bench, [json.loads(line) for line in log.read_text().splitlines()]


async def test_hooks_are_told_of_one_run_before_and_after_it(tmp_path: Path) -> None:
    bench, (pre, post) = await run_with(tmp_path, "", "")
    assert (pre["phase"], post["phase"]) == ("pre", "post")
    assert pre["run"] == post["run"]
    assert post["exit_code"] == 0
    assert post["recovery_point"] == bench.standing.last_point
    assert post["files"]
    assert len(bench.begun) == 1


async def test_a_pre_hook_that_fails_begins_no_run_and_post_runs_all_the_same(
    tmp_path: Path,
) -> None:
    bench, (pre, post) = await run_with(tmp_path, "raise SystemExit('busy')", "")
    assert bench.begun == []
    assert bench.standing.last_point is None
    assert "not begun, the pre hook said no" in bench.standing.failure
    assert "busy" in bench.standing.failure
    assert pre["run"] == post["run"]
    assert post["exit_code"] == bench.standing.exit_code == 1


async def test_a_post_hook_that_fails_is_told_and_the_data_stand(tmp_path: Path) -> None:
    bench, _ = await run_with(tmp_path, "", "raise SystemExit(9)")
    assert bench.standing.last_point is not None
    assert bench.standing.exit_code == 0
    assert "the post hook failed" in bench.standing.trouble


async def test_post_runs_after_a_run_that_was_cancelled(tmp_path: Path) -> None:
    out = tmp_path / "out"
    code = "import sys; open(sys.argv[1], 'w').write(sys.stdin.read())"
    hooks = Hooks(post=(PYTHON, "-c", code, os.fspath(out)))
    bench = Bench(tmp_path, seconds=3600.0)
    runner = bench.runner(bench.job(Schedule(every=3600.0), hooks=hooks))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(runner.work)
        while not bench.begun:
            await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    assert json.loads(out.read_text())["exit_code"] == 20
