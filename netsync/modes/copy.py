"""On-demand transfers: push, pull and local copy are one engine with the roles placed anew."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import trio
from msgspec import Struct

from netsync.errors import ProtocolError, UsageError, unwrapped
from netsync.model import Options, Problem, Report
from netsync.modes.address import Remote
from netsync.modes.retrying import Attempt, Say, persist
from netsync.modes.session import Connection, session
from netsync.names import contains, shown
from netsync.net.channel import Channel, equip, memory_channels
from netsync.plan.asked import Asked
from netsync.plan.compare import Policy, policy_for
from netsync.plan.guards import NO_CHANGES, Changes
from netsync.state.verified import VerifiedFiles
from netsync.transfer.tally import Observer, Unobserved
from netsync.tree.ahead import Ahead
from netsync.tree.capability import capability
from netsync.tree.roots import (
    SourceRoot,
    TargetRoot,
    local_anchor,
    local_path,
    means_contents,
    open_sources,
    open_target,
)
from netsync.tree.threads import in_thread
from netsync.wire import messages as m
from netsync.wire.order import State
from netsync.wire.selection import split


def _say_nothing(line: str) -> None:
    del line


def _do_nothing() -> None:
    pass


class Run(Struct, frozen=True):
    """One transfer as the user asked for it, who watches it, and where its state is kept.

    ``retries`` is how often in a row it is tried again without getting further; ``say`` tells
    the user of each. ``begins`` is called before each attempt: what was written before that call
    is in what the attempt finds. ``changes`` is what limits on deletes refer to at a local target.
    ``ahead`` reads the only source before it is listed.
    """

    options: Options
    connection: Connection
    observer: Observer
    state: Path
    retries: int = 0
    say: Say = _say_nothing
    begins: Callable[[], None] = _do_nothing
    changes: Changes = NO_CHANGES
    ahead: Ahead | None = None


def check_route(command: str, sources: Sequence[Remote | bytes], target: Remote | bytes) -> None:
    """Raise ``UsageError`` unless ``command`` is a way from ``sources`` to ``target``."""
    remote = [source for source in sources if isinstance(source, Remote)]
    if remote and len(remote) < len(sources):
        raise UsageError("sources must be all local or all remote", op=command)
    if command == "verify" and remote and isinstance(target, Remote):
        raise UsageError(
            "source and destination are both remote", op=command,
            hint="run it on one of the two hosts",
        )  # fmt: skip
    if isinstance(target, Remote) and (command == "pull" or remote):
        raise UsageError(
            "the destination is remote", op=command, hint="push sends from here to a server"
        )
    if remote and command == "push":
        raise UsageError("the source is remote", op=command, hint="pull fetches from a server")


def transfer_between(
    command: str, sources: Sequence[Remote | bytes], target: Remote | bytes, run: Run
) -> Callable[[], Awaitable[Report]]:
    """Return the transfer that the addresses mean. Raises ``UsageError``."""
    check_route(command, sources, target)
    local = [source for source in sources if isinstance(source, bytes)]
    if isinstance(target, Remote):
        return functools.partial(push, local, target, run)
    if local:
        return functools.partial(copy, local, target, run)
    remote = [source for source in sources if isinstance(source, Remote)]
    return functools.partial(pull, remote, target, run)


async def push(sources: Sequence[bytes], target: Remote, run: Run) -> Report:
    """Send local sources to a server; this side is the source."""
    from netsync.transfer.source import send_tree  # noqa: PLC0415 - each role costs 50 ms

    async def work(attempt: Attempt) -> Report:
        run.begins()
        async with (
            _open_sources(sources, run) as (roots, problems),
            session(target, run.connection) as channel,
        ):
            equip(channel, run.options)
            with _counted(attempt, channel):
                await ask_to_push(channel, target.place, run.options, attempt.token)
                memory = VerifiedFiles(run.state)
                return await send_tree(channel, roots, run.options, attempt, problems, memory)
        raise AssertionError("unreachable: the session returns or raises")

    return await persist(work, run.observer, run.retries, run.say)


async def pull(sources: Sequence[Remote], target: bytes, run: Run) -> Report:
    """Fetch from a server into a local directory; this side is the target."""
    places = [source.place for source in sources]
    if run.options.paths is not None:
        places = [m.Place(place.module, _contents(place.path)) for place in places]
    if len({(source.host, source.port) for source in sources}) > 1:
        raise UsageError("all sources must be on one server", op="pull")
    asked = msgspec.structs.replace(run.options, itemize=False)

    async def work(attempt: Attempt) -> Report:
        run.begins()
        async with session(sources[0], run.connection) as channel:
            equip(channel, run.options)
            with _counted(attempt, channel):
                await open_transfer(channel, m.Direction.PULL, places, asked)
                return await _receive_locally(
                    channel, target, run, attempt, attempt.token, _asked(places, run.options)
                )
        raise AssertionError("unreachable: the session returns or raises")

    return await persist(work, run.observer, run.retries, run.say)


async def ask_to_push(
    channel: Channel, place: m.Place, options: Options, token: bytes = b""
) -> None:
    """Have a server open a push to ``place``; the source speaks next."""
    await open_transfer(channel, m.Direction.PUSH, [place], options, token)


@contextlib.contextmanager
def _counted(attempt: Attempt, channel: Channel) -> Iterator[None]:
    """Count what the body puts on the wire, however it ends."""
    try:
        yield
    finally:
        attempt.carried(channel)


async def copy(sources: Sequence[bytes], target: bytes, run: Run) -> Report:
    """Copy between two local directories: both roles in one process, over memory."""
    await in_thread(_refuse_itself, sources, target)
    run.begins()
    async with _open_sources(sources, run) as (roots, problems):
        return await copy_between(roots, problems, target, run)


def _refuse_itself(sources: Sequence[bytes], target: bytes) -> None:
    resolved = local_path(target)
    for source in sources:
        if contains(local_path(source), resolved):
            raise UsageError(
                f"the source {shown(source)} is or contains the destination",
                op="copy to",
                where=target,
                hint="copying it into itself would never end",
            )


async def copy_between(
    roots: Sequence[SourceRoot], problems: Sequence[Problem], target: bytes, run: Run
) -> Report:
    """Copy open ``roots`` into a local directory."""
    source_end, target_end = memory_channels(State.CLIENT_ASKS, State.SERVER_ANSWERS)
    equip(source_end, run.options)
    with unwrapped():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_send_quietly, source_end, roots, run, problems)
            report = await _receive_locally(target_end, target, run, run.observer)
            nursery.cancel_scope.cancel()
    return report


async def _send_quietly(
    channel: Channel, roots: Sequence[SourceRoot], run: Run, problems: Sequence[Problem]
) -> None:
    from netsync.transfer.source import send_tree  # noqa: PLC0415 - see push

    memory = VerifiedFiles(run.state)
    await send_tree(channel, roots, run.options, Unobserved(), problems, memory)


async def _receive_locally(
    channel: Channel,
    target: bytes,
    run: Run,
    observer: Observer,
    token: bytes = b"",
    asked: Asked | None = None,
) -> Report:
    from netsync.state.mirror_record import refuse_mirrored  # noqa: PLC0415 - see push
    from netsync.state.pending import PendingPlace  # noqa: PLC0415
    from netsync.state.sources import RememberedSources  # noqa: PLC0415 - see push
    from netsync.transfer.guarding import Guarding  # noqa: PLC0415
    from netsync.transfer.target import receive_tree  # noqa: PLC0415

    with local_anchor() as anchor:
        path = await in_thread(local_path, target)
        if not run.options.dry_run:
            await in_thread(refuse_mirrored, run.state, path)

        def open_root(single_file: bool) -> TargetRoot:
            dry_run = run.options.dry_run
            return open_target(anchor, path, single_file=single_file, dry_run=dry_run)

        policy = msgspec.structs.replace(local_policy(run.options), asked=asked)
        place = path.rstrip(b"/") or b"/"
        memory, pending = RememberedSources(run.state, place), PendingPlace(run.state, place)
        verified = VerifiedFiles(run.state)
        guarding = Guarding(None, memory, pending, verified, run.changes)
        return await receive_tree(channel, open_root, policy, observer, guarding, token)


def _asked(places: Sequence[m.Place], options: Options) -> Asked:
    """Return what a server may list to who pulls from ``places``."""
    whole = any(means_contents(place.path) for place in places)
    return Asked(options, None if whole else [os.path.basename(place.path) for place in places])


def local_policy(options: Options) -> Policy:
    """Return the policy of a target in this process with all it may do."""
    return policy_for(options, capability(), special=True)


@contextlib.asynccontextmanager
async def _open_sources(
    sources: Sequence[bytes], run: Run
) -> AsyncGenerator[tuple[list[SourceRoot], list[Problem]]]:
    """Hold the local sources. One missing among several is a problem; all missing an error."""
    if run.options.paths is not None:
        sources = [_contents(source) for source in sources]
    with contextlib.ExitStack() as stack:
        anchor = stack.enter_context(local_anchor())

        def opened() -> tuple[list[SourceRoot], list[Problem]]:
            names = [(local_path(source), os.path.basename(source)) for source in sources]
            roots, problems = open_sources([(anchor, *name) for name in names], stack)
            if run.ahead is not None and len(roots) == 1:
                roots = [roots[0]._replace(ahead=run.ahead)]
            return roots, problems

        yield await in_thread(opened)


def _contents(path: bytes) -> bytes:
    """Return a source's path so that the paths of a list are relative to it."""
    return path if not path or means_contents(path) else path + b"/"


async def open_transfer(
    channel: Channel,
    direction: m.Direction,
    places: list[m.Place],
    options: Options,
    run: bytes = b"",
) -> None:
    """Ask a server for a transfer, and return when it may begin. Raises ``NetsyncError``.

    A source's restriction to paths is its own business, and not told.
    """
    if direction is m.Direction.PUSH:
        options = msgspec.structs.replace(options, paths=None)
    opened, parts = _split(options)
    await channel.send(m.Open(direction, places, opened, selections=len(parts), run=run))
    for part in parts:
        await channel.send(part)
    if not isinstance((await channel.receive()).message, m.Opened):
        raise ProtocolError("the server answered something else", op="open the transfer")


def _split(options: Options) -> tuple[Options, list[m.Selection]]:
    try:
        return split(options)
    except ValueError as error:
        raise UsageError(str(error), op="ask for the transfer") from error
