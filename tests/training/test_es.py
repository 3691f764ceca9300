"""Evolution strategies: on a toy, repeated, with workers, resumed, and as a scheduler."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from marl_sched.config import Config, load_config
from marl_sched.errors import UserError
from marl_sched.evaluation.compare import part_episodes
from marl_sched.evaluation.entrants import load_player
from marl_sched.evaluation.suites import get_suite
from marl_sched.schedulers import get_scheduler
from marl_sched.schedulers.learned.family import SIZE, theta_at
from marl_sched.schedulers.learned.scorer import (
    FEATURES,
    GLOBAL_FEATURES,
    HIDDEN,
    NUM_INDEX_PARAMS,
    NUM_WEIGHTS,
)
from marl_sched.schedulers.learned.scorer_file import load_record, load_scorer
from marl_sched.training import sequences
from marl_sched.training.es import (
    Ascent,
    EvolutionStrategies,
    centred_ranks,
    free_weights,
    gradient_of,
    perturbations,
)
from marl_sched.training.records import RunFolder
from marl_sched.training.run import train
from marl_sched.types import Cluster

TIMES = {"elapsed_s", "decisions_per_s"}


def settings(iterations: int, *more: str) -> Config:
    return load_config(
        overrides=[
            "training.algo=es",
            f"training.iterations={iterations}",
            "training.minutes=null",
            "training.num_env_runners=0",
            "training.validation_every=2",
            "training.validation_episodes=3",
            "training.checkpoint_every=1",
            "training.es.pairs=3",
            "training.es.sequences=3",
            "env.train_clusters=[2x4]",
            "env.jobs_per_episode=40",
            "workload.synthetic.num_jobs=400",
            "cluster=4x4",
            *more,
        ]
    )


def curve(out: Path) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in row.items() if name not in TIMES}
        for row in RunFolder(out).rows()
    ]


def test_ranks() -> None:
    np.testing.assert_allclose(centred_ranks(np.array([3.0, -1.0, 7.0])), [0.0, -0.5, 0.5])
    np.testing.assert_allclose(centred_ranks(np.array([2.0, 2.0])), [0.0, 0.0])


def test_climbs_a_hill() -> None:
    rng = np.random.default_rng(0)
    top = rng.standard_normal(20)
    ascent = Ascent(np.zeros(20), lr=0.05, half_life=200)
    for _ in range(300):
        noise = rng.standard_normal((24, 20))
        members = ascent.theta + perturbations(noise, 0.05)
        fitness = -((members - top) ** 2).sum(axis=1)
        ascent.step(gradient_of(fitness, noise, 0.05))
    assert np.abs(ascent.theta - top).max() < 0.1


def test_the_same_whoever_plays_and_however_often_interrupted(
    tmp_path: Path, ray_local: None
) -> None:
    train(settings(4), tmp_path / "whole")
    train(settings(4, "training.num_env_runners=2"), tmp_path / "ray")
    train(settings(3), tmp_path / "halves")
    train(settings(4), tmp_path / "halves", resume=True)
    whole = np.load(tmp_path / "whole" / "checkpoints" / "iter_4" / "es.npz")
    for other in ("ray", "halves"):
        saved = np.load(tmp_path / other / "checkpoints" / "iter_4" / "es.npz")
        for name in whole:
            np.testing.assert_array_equal(saved[name], whole[name])
    assert curve(tmp_path / "whole") == curve(tmp_path / "ray")
    last = {tuple(curve(tmp_path / name)[-1].items()) for name in ("whole", "halves")}
    assert len(last) == 1
    assert curve(tmp_path / "whole")[-1]["validation_percent"] != 0.0


def test_a_sequence_is_spread_over_tasks(ray_local: None) -> None:
    """Whatever its parts, what comes out is what one process plays."""
    alone, spread = settings(1), settings(1, "training.num_env_runners=3")
    drawn = sequences.draw(alone, "train", np.random.default_rng(0), 2)
    offsets = 0.1 * np.random.default_rng(1).standard_normal((65, SIZE))
    players = sequences.Players(spread)
    assert players.parts(2, 65) == 2  # three would be smaller than LEAST_TASK
    assert players.parts(2, 193) == 3 and players.parts(3, 193) == 1 and players.parts(1, 5) == 1
    costs, met = players.play(drawn, np.zeros(SIZE), offsets)
    expected, known = sequences.Players(alone).play(drawn, np.zeros(SIZE), offsets)
    np.testing.assert_array_equal(costs, expected)
    assert costs.shape == (2, 66, 7) and met == known


def test_another_seed_draws_other_sequences(tmp_path: Path) -> None:
    drawn = [
        sequences.draw(settings(1, f"seed={seed}"), "train", np.random.default_rng(seed), 20)
        for seed in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    assert {s.cluster for s in drawn[0]} == {"4x4", "2x4"}
    assert all(0.5 <= s.restart_scale <= 2.0 and 0.5 <= s.estimate_noise <= 1.5 for s in drawn[0])


def test_what_is_kept_is_no_worse_than_the_base_on_validation(tmp_path: Path) -> None:
    result = train(settings(2), tmp_path)
    record = load_scorer(tmp_path)
    assert record.validation == result.best_validation <= 0.0
    assert record.iteration == result.best_iteration
    config = settings(2)
    episodes = part_episodes(config, "test", 2)
    runs = load_player(str(tmp_path)).play(config, "test", episodes)
    assert all(run["num_finished"] == 40 for run in runs)


def test_a_network_played_is_the_scheduler_saved() -> None:
    """With a last layer of zero each network's costs are the base's."""
    config = settings(1)
    sequence = sequences.draw(config, "train", np.random.default_rng(0), 1)[0]
    costs, _ = sequences.play(config, sequence, np.zeros(SIZE), np.zeros((2, SIZE)))
    assert costs[0, 0] > 0 and (costs == costs[0]).all()
    assert not sequences.log_ratios(costs[None], [sequence]).any()


def test_features_left_out() -> None:
    free = free_weights(("surprise",))
    assert free.sum() == free.size - HIDDEN
    assert not free[FEATURES.index("surprise") * HIDDEN :][:HIDDEN].any()
    with pytest.raises(UserError, match="no feature 'age'; known: log_active"):
        free_weights(("age",))


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("env.base=equi", "begin at elastic_index, not at 'equi'"),
        ("training.es.without=[age]", "no feature 'age'"),
        ("training.es.traces=[/nowhere.csv]", "/nowhere.csv"),
        ("env.train_clusters=[big]", "big"),
    ],
)
def test_bad_settings_end_before_anything_is_written(
    tmp_path: Path, override: str, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        train(settings(1, override), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_kept_stays_comparable_when_a_run_goes_on(tmp_path: Path) -> None:
    train(settings(1), tmp_path)
    with pytest.raises(UserError, match="training.validation_episodes was 3 and now is 2"):
        train(settings(2, "training.validation_episodes=2"), tmp_path, resume=True)
    assert train(settings(2, "training.validation_every=1"), tmp_path, resume=True).iteration == 2


def test_the_index_below_is_trained_too(tmp_path: Path) -> None:
    theta = np.zeros(NUM_INDEX_PARAMS + NUM_WEIGHTS)
    base = get_scheduler("elastic_index:tuned")
    assert sequences.scorer_of(base, theta).params == base.params
    theta[:NUM_INDEX_PARAMS] = 0.1
    moved = sequences.scorer_of(base, theta).params
    for name in ("h", "g", "b"):
        assert moved[name] == pytest.approx(base.params[name] * np.exp(0.4))
    odds = [p["p"] / (1.0 - p["p"]) for p in (base.params, moved)]
    assert odds[1] == pytest.approx(odds[0] * np.exp(0.4))
    for tuned in (True, False):
        out = tmp_path / str(tuned)
        train(settings(2, f"training.es.tune_index={str(tuned).lower()}"), out)
        shifts = np.load(out / "checkpoints" / "iter_2" / "es.npz")["theta"][:NUM_INDEX_PARAMS]
        assert bool(shifts.any()) is tuned


def test_the_mean_of_generations_is_kept(tmp_path: Path) -> None:
    train(settings(3, "training.es.averaging=1"), tmp_path / "mean")
    thetas = [np.load(tmp_path / "mean" / "checkpoints" / f"iter_{n}" / "es.npz") for n in (2, 3)]
    train(settings(1), tmp_path / "one")
    first = np.load(tmp_path / "one" / "checkpoints" / "iter_1" / "es.npz")["theta"]
    mean = (first + thetas[0]["theta"] + thetas[1]["theta"]) / 3.0
    np.testing.assert_allclose(thetas[1]["average"], mean, rtol=1e-12, atol=1e-15)


def test_what_is_kept_knows_the_states_it_met(tmp_path: Path) -> None:
    train(settings(2), tmp_path)
    record = load_scorer(tmp_path)
    assert record.fallback == get_scheduler("elastic_index:tuned").params
    assert record.seen is not None and set(record.seen) == set(GLOBAL_FEATURES)
    assert all(low < high for low, high in record.seen.values())
    config = settings(2)
    episodes = part_episodes(config, "validation", 3)
    runs = load_player(str(tmp_path)).play(config, "validation", episodes)
    assert all(run["fallback_fraction"] < 0.2 for run in runs)


def test_where_nothing_was_decided_nothing_counts_as_unknown(tmp_path: Path) -> None:
    """On an empty cluster all jobs have all they can use: the network is never asked."""
    idle = ("cluster=64x8", "env.train_clusters=[]", "env.train_load=[0.01,0.02]")
    train(settings(1, *idle, "workload.load=0.01"), tmp_path)
    assert load_scorer(tmp_path).seen is None


def test_a_seed_of_training_alone(tmp_path: Path) -> None:
    for seed in (0, 1):
        train(settings(1, f"training.seed={seed}"), tmp_path / str(seed))
    saved = [np.load(tmp_path / s / "checkpoints" / "iter_1" / "es.npz")["theta"] for s in "01"]
    assert (saved[0] != saved[1]).any()


def test_the_clusters_of_a_suite(shared_data: Path) -> None:
    config = settings(1, "training.es.suite=training", f"training.es.data={shared_data}")
    found = sequences.sources(config)
    assert len(found) == 10 and found[0].trace is None
    assert {source.tenants for source in found} > {("6c71a0",), ("b436b2",)}
    drawn = sequences.draw(config, "train", np.random.default_rng(0), 40)
    assert len({(s.trace, s.tenants) for s in drawn}) > 5
    held_out = {(cell.trace, cell.tenants) for cell in get_suite("held-out").cells}
    named = {(s.trace and str(Path(s.trace).relative_to(shared_data)), s.tenants) for s in found}
    assert not held_out & named
    with pytest.raises(UserError, match="--data"):
        sequences.check(settings(1, "training.es.suite=training"))


ONLY_RESTARTS = ("env.reward.completion_time=0", "env.reward.preemption=1")


def test_the_reward_is_what_is_trained_for(tmp_path: Path) -> None:
    """Restarts are soon given up where nothing else counts, and the JCT pays for it."""
    more = ("training.es.pairs=8", "training.es.lr=0.3", "env.train_clusters=[]")
    train(settings(12, *more, *ONLY_RESTARTS), tmp_path)
    config = settings(1, "env.train_clusters=[]")
    episodes = part_episodes(config, "test", 3)
    kept, base = (
        load_player(name).play(config, "test", episodes)
        for name in (str(tmp_path), config.env.base)
    )

    def mean(runs: list[dict[str, float]], metric: str) -> float:
        return float(np.mean([run[metric] for run in runs]))

    assert load_scorer(tmp_path).validation < -20.0
    assert mean(kept, "overhead_gpu_s") < 0.9 * mean(base, "overhead_gpu_s")
    assert mean(kept, "avg_jct_s") > mean(base, "avg_jct_s")


def test_costs_against_the_base_by_hand() -> None:
    config = settings(1, "env.reward.completion_time=3", "env.reward.deadline=1")
    one = sequences.draw(config, "train", np.random.default_rng(0), 1)
    assert one[0].weights == (0.75, 0.0, 0.0, 0.0, 0.25, 0.0, 0.0)
    costs = np.zeros((1, 3, 7))
    costs[0, :, 0] = 100.0, 80.0, 100.0
    costs[0, :, 4] = 0.0, 2.0, 0.0  # the base misses no deadline: each counts as much as 100 %
    found = sequences.log_ratios(costs, one)
    np.testing.assert_allclose(found, [[np.log(1.0 - 0.75 * 0.2 + 0.25 * 2.0), 0.0]])


def test_the_benchmark_of_the_signal_takes_families_too() -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "es_signal.py"
    differences = runpy.run_path(str(script))["differences"]
    config = settings(1, "env.train_weights=[completion_time, preemption]")
    found = differences(config, np.zeros(3 * SIZE), 0.1, 1, 0)
    assert found.shape == (1, 24) and found.std() > 0.0


def test_one_family_for_all_weights(tmp_path: Path) -> None:
    terms = ("completion_time", "preemption")
    more = (f"env.train_weights=[{','.join(terms)}]", "training.es.sequences=2")
    config = settings(3, *more)
    drawn = sequences.draw(config, "train", np.random.default_rng(0), 4)
    assert len({one.weights for one in drawn}) == 4
    for one in drawn:
        assert sum(one.weights) == pytest.approx(1.0)
        assert one.weights[0] + one.weights[5] == pytest.approx(1.0)
    result = train(config, tmp_path)
    record = load_record(tmp_path)
    assert record.terms == terms and record.validation == result.best_validation
    saved = np.load(tmp_path / "checkpoints" / "iter_3" / "es.npz")["theta"]
    assert saved.size == 3 * SIZE and saved[SIZE:].any()
    assert record.iteration > 0
    ends = [get_scheduler(f"{tmp_path}:{term}=1").param_array for term in terms]
    assert (ends[0] != ends[1]).any()
    # Resumed, it draws the same weights.
    train(settings(2, *more), tmp_path / "halves")
    train(config, tmp_path / "halves", resume=True)
    assert curve(tmp_path / "halves")[-1] == curve(tmp_path)[-1]


def test_the_gradient_of_a_family() -> None:
    """Against differences of the mean fitness over weightings, along random directions."""
    config = settings(1, "env.train_weights=[completion_time,preemption]")
    trainer = EvolutionStrategies(config)
    rng = np.random.default_rng(0)
    drawn = sequences.draw(config, "train", rng, 6)
    slope = rng.standard_normal(SIZE)

    def fitness(thetas: np.ndarray) -> np.ndarray:
        """(S, M) of scorers (S, M, SIZE): how far they go along a slope, which turns with w."""
        turned = [slope * (1.0 if one.weights[0] > 0.5 else -1.0) for one in drawn]
        return np.einsum("smd,sd->sm", thetas, np.array(turned))

    def mean_fitness(theta: np.ndarray) -> float:
        at = [theta_at(theta, sequences.trained_weights(config, one)) for one in drawn]
        return float(fitness(np.array(at)[:, None]).mean())

    noise = rng.standard_normal((4000, SIZE))
    offsets = perturbations(noise, 0.1)
    costs = fitness(np.broadcast_to(offsets, (len(drawn), *offsets.shape)))
    found = trainer._gradient(costs, drawn, noise)
    directions = rng.standard_normal((60, 3 * SIZE))
    rises = [mean_fitness(d) - mean_fitness(-d) for d in directions]
    assert np.corrcoef(directions @ found, rises)[0, 1] > 0.9
    # One weighting's costs are no measure of another's.
    scaled = costs * np.array([1.0, 1000.0, 1.0, 0.001, 1.0, 5.0])[:, None]
    np.testing.assert_array_equal(trainer._gradient(scaled, drawn, noise), found)


def test_a_family_is_scored_at_each_term_alone_and_at_all_evenly() -> None:
    terms = ("completion_time", "preemption")
    config = settings(1, f"env.train_weights=[{','.join(terms)}]")
    trainer = EvolutionStrategies(config)
    theta = 0.05 * np.random.default_rng(0).standard_normal(3 * SIZE)
    score, _ = trainer.validate(theta)
    at: dict[tuple[float, float], list[float]] = {(1.0, 0.0): [], (0.0, 1.0): [], (0.5, 0.5): []}
    validation = np.random.default_rng([config.seed, 3])
    for one in sequences.draw(config, "validation", validation, 3):
        for weights, ratios in at.items():
            given = replace(one, weights=(weights[0], 0.0, 0.0, 0.0, 0.0, weights[1], 0.0))
            costs, _ = sequences.play(config, given, theta, np.zeros((1, SIZE)))
            base, own = costs[:, [0, 5]]
            norm = np.maximum(base, [0.0, Cluster.parse(one.cluster).num_gpus])
            ratios.append(1.0 + float(np.array(weights) @ ((own - base) / norm)))
    means = [100.0 * (np.prod(ratios) ** (1 / 3) - 1.0) for ratios in at.values()]
    assert score == pytest.approx(np.mean(means))


def test_a_warm_start_is_for_one_set_of_weights(tmp_path: Path) -> None:
    both = ("training.algo=ppo", "training.warm_start=0.5", "env.train_weights=[slowdown,energy]")
    with pytest.raises(UserError, match="training.warm_start and env.train_weights"):
        train(settings(1, *both), tmp_path / "out")
    assert not (tmp_path / "out").exists()
