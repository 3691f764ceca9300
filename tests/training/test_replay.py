"""The replay buffer: n-step by hand and across fragments, priorities, ring."""

from __future__ import annotations

import numpy as np
import pytest

from marl_sched.training.gae import discounts
from marl_sched.training.replay import ArrayReplayBuffer, SumTree, n_step
from marl_sched.training.rollout import SCHEDULER, ModuleRollout, Rollout


def column(*values: float) -> np.ndarray:
    return np.array(values, float)[:, None]


def test_n_step_by_hand() -> None:
    # gamma 0.5, n = 3; step 1 takes no time; step 4 ends the episode.
    rewards = column(1, 2, 4, 8, 16, 32, 64)
    dt_s = column(9, 0, 9, 9, 9, 9, 9)
    dones = np.array([0, 0, 0, 0, 1, 0, 0], bool)[:, None]
    reward, factor, ended = n_step(rewards, discounts(dt_s, dones, 0.5), dones, 3)
    # t=0: 1 + 0.5*2 + 0.5*4 (step 1 does not discount) ; then 0.5^2 on what follows
    # t=1: 2 + 4 + 0.5*8 ; 0.5^2.  t=2: 4 + 0.5*8 + 0.25*16, ended.  t=3: 8 + 0.5*16, ended.
    np.testing.assert_allclose(reward, column(4, 10, 12, 16))
    np.testing.assert_array_equal(factor, column(0.25, 0.25, 0, 0))
    np.testing.assert_array_equal(ended, [[False], [False], [True], [True]])


def test_n_step_in_continuous_time() -> None:
    # 2 per hour: half an hour discounts by 1/e, no time not at all.
    dt_s = column(1800, 0, 900, 3600)
    dones = np.zeros((4, 1), bool)
    reward, factor, _ = n_step(column(1, 10, 100, 1), discounts(dt_s, dones, 1.0, 2.0), dones, 3)
    np.testing.assert_allclose(reward, column(1 + 110 / np.e))
    np.testing.assert_allclose(factor, column(np.exp(-1.5)))


def stream(num_steps: int, num_envs: int, seed: int) -> dict[str, np.ndarray]:
    """One long record of B environments; each observation is its own number."""
    rng = np.random.default_rng(seed)
    shape = (num_steps, num_envs)
    return {
        "x": np.arange((num_steps + 1) * num_envs, dtype=np.float32).reshape(-1, num_envs, 1),
        "actions": rng.integers(0, 5, shape),
        "rewards": rng.normal(size=shape),
        "dt_s": rng.integers(0, 2, shape) * 60.0,
        "dones": rng.random(shape) < 0.15,
    }


def rollout(record: dict[str, np.ndarray], start: int, end: int, worker: int = 1) -> Rollout:
    part = ModuleRollout(
        obs={"x": record["x"][start : end + 1]},
        **{name: record[name][start:end] for name in ("actions", "rewards", "dt_s", "dones")},
    )
    num_envs = record["actions"].shape[1]
    return Rollout(worker, start, num_envs, end - start, {SCHEDULER: part})


def drawn(buffer: ArrayReplayBuffer, count: int = 4000) -> dict[float, tuple[float, ...]]:
    """Every transition that comes up: observation -> the rest."""
    (batch,) = buffer.sample(count)
    names = ("actions", "rewards", "n_step", "terminateds")
    columns = [batch.obs["x"][:, 0], batch.next_obs["x"][:, 0]]
    columns += [batch.columns[name] for name in names]
    return {row[0]: row[1:] for row in zip(*(c.tolist() for c in columns), strict=True)}


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("per_h", [0.0, 1.5])
def test_fragments_make_no_difference(n: int, per_h: float) -> None:
    record = stream(40, 4, seed=0)
    whole = ArrayReplayBuffer(1000, n_step=n, gamma=0.9, discount_per_h=per_h)
    whole.add(rollout(record, 0, 40))
    pieces = ArrayReplayBuffer(1000, n_step=n, gamma=0.9, discount_per_h=per_h)
    for start, end in [(0, 1), (1, 3), (3, 10), (10, 11), (11, 30), (30, 40)]:
        pieces.add([rollout(record, start, end)])
    expected, got = drawn(whole), drawn(pieces)
    assert len(expected) == (40 - n) * 4 and got == expected
    for position, (following, action, reward, exponent, ended) in expected.items():
        t, b = divmod(int(position), 4)
        total, factor, alive = 0.0, 1.0, True
        for k in range(n):
            if alive:
                total += factor * record["rewards"][t + k, b]
                if record["dt_s"][t + k, b] > 0:
                    factor *= 0.9 * np.exp(-per_h / 60)
                alive = not record["dones"][t + k, b]
        assert action == record["actions"][t, b] and ended == (not alive)
        assert reward == pytest.approx(total, rel=1e-5)
        if alive:
            assert np.exp(-exponent) == pytest.approx(factor, rel=1e-6)
            assert following == record["x"][t + n, b, 0]


def test_runners_do_not_mix_and_a_restart_cuts() -> None:
    first, second = stream(20, 2, seed=1), stream(20, 2, seed=2)
    second["x"] += 1000
    buffer = ArrayReplayBuffer(1000, n_step=2, gamma=1.0)
    for start in (0, 10):
        buffer.add([rollout(first, start, start + 10, 1), rollout(second, start, start + 10, 2)])
    found = drawn(buffer)
    assert len(found) == 2 * 18 * 2
    assert all((x >= 1000) == (row[0] >= 1000) for x, row in found.items())
    fresh = stream(20, 2, seed=3)
    fresh["x"] += 2000
    buffer.add(rollout(fresh, 0, 10, 1))  # starts at 0 again: another life of runner 1
    assert all((x >= 2000) == (row[0] >= 2000) for x, row in drawn(buffer).items())


def test_ring_forgets_the_oldest() -> None:
    record = stream(60, 2, seed=4)
    buffer = ArrayReplayBuffer(50, n_step=3, gamma=1.0)
    for start in range(0, 60, 10):
        buffer.add(rollout(record, start, start + 10))
    found = drawn(buffer)
    # The last 50 observations are kept; of these the last 3 of both rows are still open.
    assert sorted(found) == list(range(120 - 50, 120 - 6)) and len(buffer) == 50
    assert all(row[0] == x + 3 * 2 for x, row in found.items() if not row[4])
    with pytest.raises(ValueError, match="exceeds"):
        buffer.add(rollout(stream(60, 2, 0), 0, 60))


def test_priorities_are_followed_and_corrected() -> None:
    record = stream(102, 1, seed=5)
    buffer = ArrayReplayBuffer(128, n_step=2, gamma=1.0, alpha=1.0, beta=1.0, seed=0)
    buffer.add(rollout(record, 0, 102))
    (batch,) = buffer.sample(100)
    assert np.allclose(batch.columns["weights"], 1.0)
    errors = np.where(batch.obs["x"][:, 0] < 50, 3.0, 1.0)
    buffer.update_priorities(errors)
    (batch,) = buffer.sample(8000)
    high = batch.obs["x"][:, 0] < 50
    assert abs(high.mean() - 0.75) < 0.01
    np.testing.assert_allclose(batch.columns["weights"][high], 1 / 3, rtol=1e-4)
    np.testing.assert_allclose(batch.columns["weights"][~high], 1.0, rtol=1e-4)


def test_sum_tree_agrees_with_cumulated_sums() -> None:
    rng = np.random.default_rng(6)
    tree, plain = SumTree(37), np.zeros(37)
    for _ in range(20):
        slots = rng.integers(0, 37, 15)
        values = rng.random(37) * (rng.random(37) < 0.7)
        tree.set(slots, values[slots])
        plain[slots] = values[slots]
    assert tree.total == pytest.approx(plain.sum())
    mass = rng.random(500) * tree.total
    np.testing.assert_array_equal(tree.find(mass), np.searchsorted(np.cumsum(plain), mass, "right"))
    assert (plain[tree.find(np.array([0.0, np.nextafter(tree.total, 0)]))] > 0).all()
