"""Names of a listing are judged together as they are judged one by one."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from netsync.names import NAME_MAX, are_components, is_component

unhurried = settings(deadline=None, derandomize=True)

names = st.one_of(
    st.binary(max_size=4),
    st.text("./\0a", max_size=3).map(str.encode),
    st.sampled_from([b".", b"..", b".netsync", b".netsyncignore", b".netsyncignore2", b".netsynd"]),
    st.binary(max_size=3).map(b".netsync".__add__),
    st.integers(NAME_MAX - 1, NAME_MAX + 1).map(b"n".__mul__),
)


@unhurried
@given(st.sets(names, max_size=6))
def test_sorted_names_are_components_if_each_is(found: set[bytes]) -> None:
    assert are_components(sorted(found)) == all(map(is_component, found))
