"""The plan's properties: a tree brought about is the same tree, and rules decide by the first."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from netsync.model import Entry, Keep, Kind, Options, Rule
from netsync.plan.compare import Capability, Policy, Verdict, decide, policy_for
from netsync.plan.filters import Filter

unhurried = settings(deadline=None, derandomize=True)
"""The same examples in every run, and no clock: a busy machine is no failure."""

entries = st.builds(
    Entry,
    st.just(b"n"),
    st.sampled_from(Kind),
    st.integers(0, 0o7777),
    st.integers(0, 3),
    st.integers(0, 3),
    st.integers(0, 2),
    st.integers(-2, 2),
    st.sampled_from([b"", b"a"]),
    st.integers(0, 1),
)
options = st.builds(
    Options,
    keep=st.builds(Keep, perms=st.booleans(), owner=st.booleans(), group=st.booleans(),
                   times=st.booleans()),
    size_only=st.booleans(),
    modify_window=st.integers(0, 2),
    existing=st.booleans(),
    ignore_existing=st.booleans(),
    update=st.booleans(),
)  # fmt: skip
policies = st.builds(
    policy_for,
    options,
    st.builds(
        Capability,
        st.booleans(),
        st.frozensets(st.integers(0, 3)),
        st.integers(0, 0o777),
        st.integers(0, 3),
        st.booleans(),
    ),
    special=st.booleans(),
)


def brought_about(entry: Entry, policy: Policy) -> Entry:
    """Return what a target has that created ``entry`` with all it may and must set."""
    keep = policy.options.keep
    return msgspec.structs.replace(
        entry,
        mode=policy.mode(entry, (entry.uid, entry.gid)),
        uid=entry.uid if policy.owner else 99,
        gid=entry.gid if policy.keeps_group(entry.gid) else 99,
        mtime_ns=entry.mtime_ns if keep.times else 10**18,
    )


@unhurried
@given(entries, policies)
def test_what_was_brought_about_needs_nothing_more(entry: Entry, policy: Policy) -> None:
    made = brought_about(entry, policy)
    verdict = decide(entry, made, policy, (entry.uid, entry.gid))
    content_by_time = (
        entry.kind is Kind.FILE
        and not policy.options.keep.times
        and not policy.options.size_only
        and verdict is Verdict.CONTENT
    )
    assert verdict in (Verdict.SAME, Verdict.SKIP) or content_by_time


@unhurried
@given(entries, st.none() | entries, policies)
def test_create_means_absent_and_replace_means_another_kind(
    entry: Entry, present: Entry | None, policy: Policy
) -> None:
    verdict = decide(entry, present, policy, (entry.uid, entry.gid))
    if present is None:
        assert verdict in (Verdict.CREATE, Verdict.SKIP)
    elif present.kind is not entry.kind:
        assert verdict in (Verdict.REPLACE, Verdict.SKIP)
    else:
        assert verdict not in (Verdict.CREATE, Verdict.REPLACE)


names = st.binary(min_size=1, max_size=6).filter(lambda name: not set(b"/\0") & set(name))
patterns = st.sampled_from([b"*", b"*.a", b"a*", b"/b", b"c/", b"**/d", b"?", b"[a-c]*", b"a/b"])
rules = st.lists(st.builds(Rule, st.booleans(), patterns), max_size=5)


@unhurried
@given(rules, st.lists(names, min_size=1, max_size=3).map(b"/".join), st.booleans())
def test_rules_decide_as_the_first_that_matches_alone(
    given_rules: list[Rule], path: bytes, directory: bool
) -> None:
    deciding = [
        rule
        for rule in given_rules
        if Filter([Rule(True, rule.pattern)]).excludes(path, directory=directory)
    ]
    expected = bool(deciding) and deciding[0].exclude
    assert Filter(given_rules).excludes(path, directory=directory) is expected


@unhurried
@given(names, st.booleans())
def test_a_star_matches_every_name(name: bytes, directory: bool) -> None:
    assert Filter([Rule(True, b"*")]).excludes(name, directory=directory)
