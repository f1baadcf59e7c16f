"""Packed operations: what was packed is unpacked, and only what is whole and confined."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsync.errors import ProtocolError
from netsync.names import is_component
from netsync.operation import AnyOperation, Operation, is_confined
from netsync.wire.operations import NO_CHAIN, chained, chained_all, pack, unpack

names = st.binary(min_size=1, max_size=20).filter(is_component)
paths = st.lists(names, min_size=1, max_size=4).map(b"/".join)
numbers = st.integers(0, 2**63 - 1)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "path": paths, "to": paths, "target": st.binary(max_size=99), "data": st.binary(max_size=999),
    "offset": numbers, "size": numbers, "device": numbers, "length": st.integers(1, 2**63 - 1),
    "mtime": st.integers(-(2**63), 2**63 - 1), "atime": st.integers(-(2**63), 2**63 - 1),
    "uid": st.integers(0, 2**32 - 1), "gid": st.integers(0, 2**32 - 1),
    "mode": st.integers(0, 0o7777), "name": st.binary(min_size=1, max_size=255),
    "value": st.binary(max_size=999), "keep_size": st.booleans(),
}  # fmt: skip
KINDS: tuple[type[Operation], ...] = AnyOperation.__args__
operations = st.sampled_from(KINDS).flatmap(
    lambda kind: st.builds(kind, **{name: FIELDS[name] for name in kind.__struct_fields__})
)


@given(st.lists(operations, max_size=20))
def test_what_was_packed_is_unpacked_and_adds_up(wanted: list[Operation]) -> None:
    packed = [pack(each) for each in wanted]
    tail = memoryview(b"".join(packed))
    found = list(unpack(tail))
    assert [each.operation for each in found] == wanted
    assert [bytes(each.packed) for each in found] == packed
    chain = NO_CHAIN
    for each in packed:
        chain = chained(chain, each)
    assert chained_all(NO_CHAIN, tail) == chain


@given(st.lists(operations, min_size=1, max_size=5), st.data())
def test_any_cut_of_a_log_has_one_chain(wanted: list[Operation], data: st.DataObject) -> None:
    """However operations are spread over messages, the chain behind each is the same."""
    packed = [pack(each) for each in wanted]
    cut = data.draw(st.integers(0, len(packed)))
    first = chained_all(NO_CHAIN, memoryview(b"".join(packed[:cut])))
    whole = chained_all(NO_CHAIN, memoryview(b"".join(packed)))
    assert chained_all(first, memoryview(b"".join(packed[cut:]))) == whole
    if len(packed) > 1 and packed[0] != packed[1]:
        swapped = b"".join([packed[1], packed[0], *packed[2:]])
        assert chained_all(NO_CHAIN, memoryview(swapped)) != whole


@given(st.binary(max_size=200) | st.lists(operations, max_size=3).map(
    lambda some: b"".join(map(pack, some))), st.data())  # fmt: skip
def test_any_bytes_are_operations_or_a_protocol_error(tail: bytes, data: st.DataObject) -> None:
    if tail:
        at = data.draw(st.integers(0, len(tail) - 1))
        tail = tail[:at] + bytes([data.draw(st.integers(0, 255))]) + tail[at + 1 :]
    try:
        found = [each.operation for each in unpack(memoryview(tail))]
    except ProtocolError:
        return
    assert all(map(is_confined, found))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("path", [b"..", b"a/..", b"/a", b"", b"a/", b".netsync", b"a\0b"])
def test_no_operation_is_confined_with_a_path_that_is_not(
    kind: type[Operation], path: bytes
) -> None:
    body = {name: b"x" for name in kind.__struct_fields__ if name in ("to", "target", "name")}
    plain = {"value": b"", "data": b"", "length": 1}
    given_ = {name: plain.get(name, 0) for name in kind.__struct_fields__} | body | {"path": path}
    operation = msgspec.convert(list(given_.values()), list[Any])
    assert is_confined(kind(*operation)) == (path == b"" and kind.rootward)
