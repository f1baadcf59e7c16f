"""Which message may come when: whole conversations, and every pair that is not allowed."""

from __future__ import annotations

import pytest

from netsync.errors import ProtocolError
from netsync.wire import messages as m
from netsync.wire import mirroring, reuse, watching
from netsync.wire.codec import MESSAGES
from netsync.wire.committing import Commit, CommitData, CommitEnd, CommitFile, CommitResults
from netsync.wire.fine import FineSignature, WantFine
from netsync.wire.messages import Message
from netsync.wire.order import TRANSITIONS, Order, State
from tests.support.messages import SAMPLES

ONE_OF: dict[type[Message], Message] = {type(message): message for message, _ in SAMPLES.values()}
ANY_TIME: set[type[Message]] = {m.Ping, m.Fault}

SOURCE: list[type[Message]] = [
    m.Offer, m.List, m.Files, m.List, m.Piece, m.FileEnd, m.Unsent, m.List, m.Relisted, m.ListEnd,
    m.Relisted, m.Files, m.Piece, m.Piece, m.FileEnd, m.Unsent, m.End,
]  # fmt: skip
TARGET: list[type[Message]] = [
    m.Start, m.Wants, m.Credit, m.Relist, m.WantDelta, m.Signature, m.Signature, m.Applied, m.Wants,
    m.WantsEnd, m.Applied, m.Applied, m.Committed,
]  # fmt: skip
NOTHING_TO_DO: list[type[Message]] = [m.Offer, m.ListEnd, m.End]


def says(order: Order, *kinds: type[Message]) -> None:
    for kind in kinds:
        order.check(ONE_OF[kind])


def transfers(order: Order, role: State, kinds: list[type[Message]]) -> None:
    order.begin(role)
    says(order, *kinds)
    order.finish()


def test_a_client_may_browse_push_pull_and_leave() -> None:
    client = Order(State.CLIENT_GREETS)
    says(client, m.Hello, m.Browse, m.Browse, m.Open, m.Selection, m.Selection)
    transfers(client, State.SOURCE_OFFERS, SOURCE)
    says(client, m.Open)
    transfers(client, State.TARGET_STARTS, TARGET)
    says(client, m.Open)
    transfers(client, State.SOURCE_OFFERS, NOTHING_TO_DO)
    says(client, m.Bye)
    assert client.state is State.CLIENT_GONE


def test_a_server_may_answer_and_take_either_role() -> None:
    server = Order(State.SERVER_GREETS)
    says(server, m.Welcome, m.Browsed, m.Browsed, m.Opened)
    transfers(server, State.TARGET_STARTS, TARGET)
    says(server, m.Opened)
    transfers(server, State.SOURCE_OFFERS, SOURCE)
    assert server.state is State.SERVER_ANSWERS


def test_a_primary_may_compare_and_stream_and_then_only_leave() -> None:
    client = Order(State.CLIENT_GREETS)
    says(client, m.Hello, mirroring.Mirror, m.Open)
    transfers(client, State.SOURCE_OFFERS, SOURCE)
    says(client, mirroring.Adopt, mirroring.Stream, mirroring.Operations, mirroring.Sync)
    says(client, mirroring.ResyncBegin, mirroring.Operations, mirroring.ResyncEnd, m.Bye)
    assert client.state is State.CLIENT_GONE


def test_commits_follow_each_other_and_need_their_end() -> None:
    client = Order(State.CLIENT_ASKS)
    says(client, Commit, CommitFile, CommitData, CommitData, CommitFile, CommitData, CommitEnd)
    says(client, Commit, CommitEnd, m.Browse, Commit, CommitFile)
    with pytest.raises(ProtocolError):
        says(client, m.Browse)


def test_finish_without_a_transfer_changes_nothing() -> None:
    order = Order(State.CLIENT_ASKS)
    order.finish()
    assert order.state is State.CLIENT_ASKS


def test_the_table_knows_every_state_and_every_message() -> None:
    assert TRANSITIONS.keys() == set(State)
    mentioned = {kind for row in TRANSITIONS.values() for kind in row}
    assert mentioned | ANY_TIME == set(MESSAGES.values())


def test_every_state_can_be_reached() -> None:
    starts = {State.CLIENT_GREETS, State.SERVER_GREETS, State.SOURCE_OFFERS, State.TARGET_STARTS}
    reached = starts | {State.FAILED}
    for row in [*TRANSITIONS.values()] * len(TRANSITIONS):
        reached |= set(row.values())
    assert reached == set(State)


LEGAL: dict[State, set[type[Message]]] = {
    State.CLIENT_GREETS: {m.Hello},
    State.CLIENT_ASKS: {
        m.Browse,
        m.Open,
        m.Selection,
        m.Bye,
        watching.Watch,
        watching.Beat,
        mirroring.Mirror,
        mirroring.Adopt,
        mirroring.Stream,
        Commit,
    },
    State.CLIENT_COMMITS: {CommitFile, CommitData, CommitEnd},
    State.CLIENT_STREAMS: {
        mirroring.Operations,
        mirroring.Sync,
        mirroring.ResyncBegin,
        mirroring.ResyncEnd,
        m.Bye,
    },
    State.CLIENT_GONE: set(),
    State.SERVER_GREETS: {m.Welcome},
    State.SERVER_ANSWERS: {
        m.Browsed,
        m.Opened,
        watching.Changed,
        watching.Heard,
        mirroring.Mirrored,
        mirroring.Acked,
        CommitResults,
    },
    State.SOURCE_OFFERS: {m.Offer},
    State.SOURCE_LISTS: {
        m.List,
        m.Relisted,
        m.ListEnd,
        m.Files,
        m.Piece,
        m.FileEnd,
        m.Unsent,
        WantFine,
    },
    State.SOURCE_SENDS: {
        m.Relisted,
        m.Files,
        m.Piece,
        m.FileEnd,
        m.Unsent,
        WantFine,
        reuse.Digests,
        m.End,
    },
    State.SOURCE_DONE: set(),
    State.TARGET_STARTS: {m.Start},
    State.TARGET_WANTS: {
        m.Credit,
        m.Relist,
        m.Wants,
        m.WantDelta,
        reuse.WantDigests,
        reuse.WantRest,
        FineSignature,
        m.Signature,
        m.Applied,
        m.WantsEnd,
    },
    State.TARGET_SETTLES: {m.Applied, m.Committed},
    State.TARGET_DONE: set(),
    State.FAILED: set(),
}


@pytest.mark.parametrize("state", State, ids=lambda state: state.value)
def test_only_what_the_protocol_says_may_come(state: State) -> None:
    for kind in set(MESSAGES.values()) - ANY_TIME:
        order = Order(state)
        if kind in LEGAL[state]:
            says(order, kind)
            assert order.state is not State.FAILED
            continue
        with pytest.raises(ProtocolError, match=f"{kind.__name__} may not come now") as caught:
            says(order, kind)
        assert state.value in str(caught.value)
        assert order.state is State.FAILED


@pytest.mark.parametrize(
    "state", [each for each in State if each is not State.FAILED], ids=lambda state: state.name
)
def test_ping_and_fault_may_come_in_every_state_and_change_nothing(state: State) -> None:
    order = Order(state)
    says(order, m.Ping, m.Fault, m.Ping)
    assert order.state is state


@pytest.mark.parametrize("kind", ONE_OF, ids=lambda kind: kind.__name__)
def test_after_a_failure_nothing_may_come(kind: type[Message]) -> None:
    order = Order(State.FAILED)
    with pytest.raises(ProtocolError):
        says(order, kind)
