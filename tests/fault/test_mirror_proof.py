"""The mirror's checker, shortly: ``scripts/mirror_check`` runs the same for longer."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.mirror_model import Model, state_of, steps_shown
from tests.support.mirror_proof import Proof
from tests.support.trees import needs_mount

ROUNDS = 20


def test_neighbouring_states_differ_and_tell_their_number() -> None:
    """Or the judge could not tell a lost step from none."""
    model, states = Model(1), []
    for _ in range(2000):
        states.append(model.state)
        model.step()
    assert all(one != other for one, other in itertools.pairwise(states))


def test_the_judge_sees_a_gap_a_loss_and_a_torn_write(tmp_path: Path) -> None:
    model = Model(2)
    model.advance_to(300)
    for name, content in sorted(model.state.items(), key=lambda each: each[0].count("/")):
        if content is None:
            (tmp_path / name).mkdir()
        else:
            (tmp_path / name).write_bytes(content)
    assert steps_shown(tmp_path, Model(2), 400) == 300
    assert state_of(tmp_path) == model.state
    later = Model(2)
    later.advance_to(301)
    assert steps_shown(tmp_path, later, 100) is None, "it lacks a step"
    victim = max((p for p in tmp_path.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    whole = victim.read_bytes()
    victim.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert steps_shown(tmp_path, Model(2), 400) is None, "no steps make this"


@needs_mount
@pytest.mark.timeout(600)
def test_whatever_happens_nothing_acknowledged_is_lost(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Killed, cut off, file systems shut down: each round begins with an acknowledgement."""
    proof = Proof(tmp_path, ROUNDS, disks=True)
    proof.run(ROUNDS)
    assert (proof.rounds, proof.lost, proof.wrong) == (ROUNDS, 0, 0)
    assert proof.commits >= ROUNDS
    assert len(proof.happened) > 4
    record_property("cases", ROUNDS)
