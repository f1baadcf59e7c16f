"""What a server does for a request once it is granted: one piece of work, in whichever process.

The session does it itself, or has it done by a process of another user (``confined``). Both call
the same functions here, with directories that are held open.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence

from netsync.model import Options, Report
from netsync.net.channel import Channel
from netsync.plan.compare import policy_for
from netsync.state.verified import VerifiedFiles
from netsync.transfer.guarding import Guarding
from netsync.transfer.source import send_tree
from netsync.transfer.tally import Unobserved
from netsync.transfer.target import receive_tree
from netsync.tree.capability import capability
from netsync.tree.roots import Anchor, TargetRoot, open_sources, open_target
from netsync.tree.threads import in_thread
from netsync.wire import messages as m


async def receive(
    channel: Channel,
    anchor: Anchor,
    request: m.Open,
    guarding: Guarding,
    *,
    special: bool,
) -> Report:
    """Be the target of a push into ``anchor``; the request has all of its options."""
    options, place = request.options, request.places[0]
    policy = policy_for(options, capability(), special=special)
    await channel.send(m.Opened())

    def open_root(single_file: bool) -> TargetRoot:
        dry_run = options.dry_run
        return open_target(anchor, place.path, single_file=single_file, dry_run=dry_run)

    return await receive_tree(channel, open_root, policy, Unobserved(), guarding, request.run)


async def send(
    channel: Channel,
    anchors: Sequence[Anchor],
    places: Sequence[m.Place],
    options: Options,
    memory: VerifiedFiles | None = None,
) -> Report:
    """Be the source of a pull; one place missing among several is a problem, all an error."""
    with contextlib.ExitStack() as stack:
        wanted = [
            (anchor, place.path, os.path.basename(place.path))
            for anchor, place in zip(anchors, places, strict=True)
        ]
        roots, problems = await in_thread(open_sources, wanted, stack)
        await channel.send(m.Opened())
        return await send_tree(channel, roots, options, Unobserved(), problems, memory)
