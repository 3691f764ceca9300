"""Pollux' search against all placements of a tiny cluster, and the goodput that it goes by."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from marl_sched.reproduce.goodput import NUM_SEEN, Agents, best_batch
from marl_sched.reproduce.goodput_fit import fit_step_time
from marl_sched.reproduce.pollux_search import Question, plan

PARAMS = np.array([0.05, 0.002, 0.1, 0.004, 0.03, 0.002, 2.5])
SHAPES = [(1, 1, 32), (1, 1, 64), (1, 2, 64), (1, 2, 90), (1, 4, 64), (2, 8, 64), (2, 8, 100)]


def agents_of(jobs: int, gpus: int, seed: int = 0) -> Agents:
    """Jobs whose speedups flatten at their own pace, and are worse across nodes."""
    rng = np.random.default_rng(seed)
    alone = np.arange(gpus + 1) ** rng.uniform(0.4, 0.95, (jobs, 1))
    memo = np.stack([alone, alone * rng.uniform(0.5, 0.95, (jobs, 1))], axis=1)
    return Agents(
        params=np.tile(PARAMS, (jobs, 1)),
        gradient=np.ones((jobs, 2)),
        batch=np.tile(np.array([32, 512, 8, 128], np.int64), (jobs, 1)),
        measured=np.ones(jobs, np.int64),
        seen=np.zeros((jobs, 16, NUM_SEEN)),
        memo=np.ascontiguousarray(memo),
    )


def question_of(held: np.ndarray, most: list[int], factor: float, capacity: list[int]) -> Question:
    jobs = len(held)
    return Question(
        job=np.arange(jobs),
        most=np.array(most, np.int64),
        factor=np.where(held.any(axis=1), factor, 1.0),
        fair=np.ones(jobs),
        held=held,
        held_gpus=held.sum(axis=1),
        held_nodes=(held > 0).sum(axis=1),
        capacity=np.array(capacity, np.int64),
    )


def cost(agents: Agents, q: Question, places: np.ndarray) -> float:
    """What the search minimises, from its definition."""
    total = 0.0
    for i, row in enumerate(places):
        speedup = 0.0
        if row.any():
            spans = int((row > 0).sum() > 1)
            speedup = agents.memo[i, spans, row.sum()] / q.fair[i]
            speedup *= len(q.capacity) / q.capacity.sum()
        if (row != q.held[i]).any():
            speedup *= q.factor[i]
        total += 1.0 / (speedup + 1e-3)
    return total


def legal(q: Question, places: np.ndarray) -> bool:
    spanning = (places > 0).sum(axis=1) > 1
    return bool(
        (places.sum(axis=0) <= q.capacity).all()
        and (places.sum(axis=1) <= q.most).all()
        and ((places[spanning] > 0).sum(axis=0) <= 1).all()
    )


def best_of_all(agents: Agents, q: Question) -> float:
    rows = [np.array(row) for row in itertools.product(*(range(c + 1) for c in q.capacity))]
    every = (np.array(places) for places in itertools.product(rows, repeat=len(q.job)))
    return min(cost(agents, q, places) for places in every if legal(q, places))


def test_the_search_finds_the_best_of_all_placements() -> None:
    hits, cases = 0, 0
    for seed in range(30):
        agents = agents_of(3, 4, seed)
        rng = np.random.default_rng(100 + seed)
        held = np.zeros((3, 2), np.int64)
        for job in range(int(rng.integers(0, 3))):
            held[job, rng.integers(2)] = 1
        q = question_of(held, rng.integers(1, 5, 3).tolist(), rng.uniform(0.3, 0.99), [2, 2])
        places = plan(agents, q)
        assert legal(q, places)
        found, best = cost(agents, q, places), best_of_all(agents, q)
        assert found <= 1.1 * best
        hits += found <= best * (1 + 1e-9)
        cases += 1
    assert hits >= 0.9 * cases


def test_jobs_stay_where_a_move_gains_less_than_the_restart_costs() -> None:
    held = np.array([[1, 0], [0, 2]], np.int64)
    agents = agents_of(2, 4)
    agents.memo[:] = np.arange(5.0)
    assert (plan(agents, question_of(held, [2, 2], 0.4, [2, 2])) == held).all()
    assert plan(agents, question_of(held, [2, 2], 0.9, [2, 2])).tolist() == [[2, 0], [0, 2]]


def test_more_jobs_than_gpus() -> None:
    held = np.zeros((5, 1), np.int64)
    places = plan(agents_of(5, 2), question_of(held, [2] * 5, 0.5, [2]))
    assert sorted(places[:, 0]) == [0, 0, 0, 1, 1]


def step_times(nodes: int, gpus: int, local: int) -> tuple[float, float]:
    a_c, b_c, a_n, b_n, a_r, b_r, gamma = PARAMS
    grad = a_c + b_c * local
    more = max(gpus - 2, 0)
    sync = 0.0 if gpus == 1 else a_n + b_n * more if nodes > 1 else a_r + b_r * more
    return grad, (grad**gamma + sync**gamma) ** (1 / gamma)


def test_the_best_batch_is_the_best_of_a_fine_grid() -> None:
    agents = agents_of(1, 8)
    agents.measured[0] = 0
    agents.gradient[0] = (1e-3, 0.1)
    chosen = np.zeros(2, np.int64)
    found = best_batch(agents, 0, True, 8, chosen)
    best = 0.0
    for local in range(8, 129):
        for steps in range(4):
            scale = 8 * local * (steps + 1) / 32
            if 2 <= scale <= 16:
                gain = (0.1 + 1e-3) / (0.1 / scale + 1e-3)
                grad, step = step_times(2, 8, local)
                best = max(best, 32 * gain / (steps * grad + step))
    assert best * 0.98 <= found <= best * 1.0001
    assert 64 <= 8 * chosen[0] * (chosen[1] + 1) <= 512 + 8


def test_what_was_measured_corrects_what_is_computed() -> None:
    agents = agents_of(1, 8)
    chosen = np.zeros(2, np.int64)
    before = best_batch(agents, 0, True, 8, chosen)
    grad, step = step_times(2, 8, 64)
    agents.seen[0, 0] = (2, 8, 64, 2 * grad, 2 * step)
    assert best_batch(agents, 0, True, 8, chosen) == pytest.approx(before / 2)
    assert best_batch(agents, 0, True, 6, chosen) > before / 2


def test_a_fit_predicts_what_it_has_seen() -> None:
    seen = np.array([(*shape, *step_times(*shape)) for shape in SHAPES], float)
    x = np.zeros(7)
    for count in range(1, len(seen) + 1):
        fit_step_time(seen[:count].copy(), x)
    a_c, b_c, a_n, b_n, a_r, b_r, gamma = x
    for nodes, gpus, local, _, step in seen:
        grad = a_c + b_c * local
        a_s, b_s = (a_n, b_n) if nodes > 1 else (a_r, b_r)
        sync = a_s + b_s * max(gpus - 2, 0) if gpus > 1 else 0.0
        assert (grad**gamma + sync**gamma) ** (1 / gamma) == pytest.approx(step, rel=0.03)


def test_a_fit_is_optimistic_about_what_was_not_seen() -> None:
    x = np.zeros(7)
    fit_step_time(np.array([(1, 1, 32, 0.1, 0.1)], float), x)
    # One batch size: half of the time fixed, half per sample; synchronisation costs nothing.
    np.testing.assert_allclose(x[:2], (0.05, 0.05 / 32), rtol=1e-3)
    assert (x[2:6] < 1e-7).all()
    fit_step_time(np.array([(1, 1, 32, 0.1, 0.1), (1, 2, 32, 0.1, 0.15)], float), x)
    assert x[2] == pytest.approx(1.1 * x[4])
