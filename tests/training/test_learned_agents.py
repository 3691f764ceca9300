"""Agents and scheduler that learn in the same run, on small games of the real environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from marl_sched.config import Config, load_config
from marl_sched.envs.batched import BatchedSchedulingEnv, spec_spaces
from marl_sched.errors import UserError
from marl_sched.evaluation.learned import validate
from marl_sched.models.policy import load_policy
from marl_sched.training.records import RunFolder
from marl_sched.training.rllib import build_algorithm
from marl_sched.training.rollout import AGENT, SCHEDULER
from marl_sched.training.run import train

TIMES = {"elapsed_s", "decisions_per_s", "sample_s", "update_s"}


def settings(iterations: int, *more: str) -> Config:
    """2 nodes of 4 GPUs, episodes of 24 jobs, four environments."""
    return load_config(
        overrides=[
            "cluster=2x4", "workload.synthetic.num_jobs=200", "env.agents=learned",
            "workload.synthetic.median_duration_s=900", "env.job_slots=8",
            "env.jobs_per_episode=24", f"training.iterations={iterations}",
            "training.minutes=null", "training.num_env_runners=0",
            "training.num_envs_per_runner=4", "training.ppo.batch_size=256",
            "training.ppo.minibatch_size=64", "training.validation_episodes=2",
            "training.validation_every=2", "training.checkpoint_every=2", *more,
        ]
    )  # fmt: skip


def curve(out: Path) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in row.items() if name not in TIMES}
        for row in RunFolder(out).rows()
    ]


def weights(algorithm: Any) -> dict[str, dict[str, np.ndarray]]:
    return {
        module_id: {name: np.array(value) for name, value in state.items()}
        for module_id, state in algorithm.learner_group.get_weights().items()
    }


def changed(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> bool:
    return any((before[n] != after[n]).any() for n in before if n.startswith("policy."))


@pytest.fixture(scope="module")
def ray_and_run(ray_local: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four iterations, validated so that its last network is kept."""
    out = tmp_path_factory.mktemp("learned")
    singles = [1.0] * len(settings(4).env.algorithms)
    scores = iter([0.0, *singles, -1.0, -2.0])
    train(settings(4), out, validate=lambda act, config, *demand: next(scores))
    return out


@pytest.mark.ray
def test_both_curves_are_recorded(ray_and_run: Path) -> None:
    rows = RunFolder(ray_and_run).rows()
    assert rows[0]["agent_return_mean"] is None
    ended = [row for row in rows[1:] if row["agent_return_mean"] is not None]
    assert len(ended) >= 3
    for row in ended:
        assert row["episode_return_mean"] is not None and row["entropy"] > 0
        assert row["agent_return_mean"] < 1
        assert 0.2 < row["agent_demand_mean"] <= 4.0
    assert any((row["agent_entropy"] or 0) > 0 for row in rows)


@pytest.mark.ray
def test_the_artefact_declares_and_is_evaluated(ray_and_run: Path) -> None:
    config = settings(4)
    policy = load_policy(ray_and_run, spec_spaces(config))
    assert policy.manifest.agent_sizes is not None and policy.demand is not None
    names = sorted(path.name for path in (ray_and_run / "best").iterdir())
    assert names == ["agent-weights-4.safetensors", "manifest.json", "weights-4.safetensors"]

    asked: list[np.ndarray] = []

    def demand(obs: Any) -> np.ndarray:
        assert policy.demand is not None
        asked.append(policy.demand(obs))
        assert obs["mask"][np.arange(len(asked[-1])), asked[-1]].all()
        return asked[-1]

    validate(policy.act, config, demand)
    assert sum(map(len, asked)) > 20
    # One GPU for everybody is another game than honest agents play.
    least = validate(
        policy.act, config, lambda obs: np.zeros(len(obs["mask"]), dtype=np.int64)
    ).percent
    honest = config.model_copy(update={"env": config.env.model_copy(update={"agents": "honest"})})
    few = len(asked)
    assert validate(policy.act, honest, demand).percent != least and len(asked) == few

    weights_file = ray_and_run / "best" / "agent-weights-4.safetensors"
    data = weights_file.read_bytes()
    weights_file.write_bytes(data[:-4] + b"0000")
    with pytest.raises(UserError, match="agent-weights-4.safetensors.*SHA-256"):
        load_policy(ray_and_run)
    weights_file.write_bytes(data)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_local")
def test_the_base_is_kept_with_honest_agents(tmp_path: Path) -> None:
    train(settings(2), tmp_path, validate=lambda act, config, *demand: float(bool(demand)))
    policy = load_policy(tmp_path)
    assert policy.manifest.is_base and policy.demand is None
    assert policy.agent_state() is not None
    assert validate(policy.act, settings(2), policy.demand).percent == pytest.approx(0.0, abs=1e-9)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_local")
def test_each_module_has_its_own_epochs_and_may_be_missing() -> None:
    algorithm = build_algorithm(settings(1, "training.ppo.minibatch_size=256"))
    try:
        seen = {AGENT: 0, SCHEDULER: 0}
        missing = 0
        for _ in range(6):
            before = weights(algorithm)
            coefficients = algorithm.learner_group._learner.curr_kl_coeffs_per_module
            coefficient = float(coefficients[AGENT])
            results = algorithm.train()["learners"]
            after = weights(algorithm)
            assert changed(before[SCHEDULER], after[SCHEDULER])
            assert results[SCHEDULER]["num_module_steps_trained"] == 3 * 256
            assert results[SCHEDULER]["gradients_default_optimizer_global_norm"] > 0
            rows = np.nan_to_num(results[AGENT].get("num_module_steps_trained", 0))
            assert changed(before[AGENT], after[AGENT]) == (rows > 0)
            if not rows:
                missing += 1
                assert float(coefficients[AGENT]) == coefficient
            seen[AGENT] += int(rows)
            runner = algorithm.env_runner_group.local_env_runner.module[AGENT].get_state()
            for name, value in runner.items():
                np.testing.assert_array_equal(np.array(value), after[AGENT][name])
        assert seen[AGENT] > 0 and missing > 0
    finally:
        algorithm.stop()


@pytest.mark.ray
@pytest.mark.usefixtures("ray_local")
def test_same_seed_same_curves_and_a_resumed_run_goes_on_exactly(tmp_path: Path) -> None:
    train(settings(4), tmp_path / "whole")
    train(settings(2), tmp_path / "halves")
    assert train(settings(4), tmp_path / "halves", resume=True).iteration == 4
    assert curve(tmp_path / "halves") == curve(tmp_path / "whole")
    assert len(curve(tmp_path / "whole")) == 5
    train(settings(2, "seed=1"), tmp_path / "other")
    assert curve(tmp_path / "other") != curve(tmp_path / "whole")[:3]


@pytest.mark.ray
@pytest.mark.usefixtures("ray_local")
@pytest.mark.slow
def test_agents_learn_that_held_gpus_cost() -> None:
    """At this price every GPU beyond the first costs more than the progress it brings."""
    config = settings(
        1, "env.demand_price=5", "training.ppo.batch_size=512", "training.ppo.lr=0.003",
        "training.ppo.entropy=0",
    )  # fmt: skip
    algorithm = build_algorithm(config)
    try:
        returns, asked = [], []
        for _ in range(14):
            sums = algorithm.train()["env_runners"].get("agent_sums", {})
            if sums.get("count"):
                returns.append(sums["return"] / sums["count"])
                asked.append(sums["asked"] / sums["count"])
        assert np.mean(asked[-3:]) < 0.7 * np.mean(asked[:2]), asked
        assert np.mean(returns[-3:]) > np.mean(returns[:2]), returns
    finally:
        algorithm.stop()


def test_declaring_earns_the_scheduler_nothing() -> None:
    """Whatever agents declare, taking the base schedule by name earns what committing earns."""
    config = settings(
        1,
        "env.actions=meta",
        "env.train_load=[1.0,1.2]",
        "env.algorithms=[elastic_index:tuned,equi]",
    )
    take_base = 1 + config.env.algorithms.index(config.env.base)
    env = BatchedSchedulingEnv(config, 2, seed=0)
    env.reset()
    rng = np.random.default_rng(0)
    declared = taken = 0
    for step in range(150):
        envs, slots = env.agents.due()
        if envs.size:
            seen = env.agents.observe(envs, slots)
            demands = rng.integers(0, seen["mask"].sum(axis=1))
            env.agents.declare(envs, slots, seen, demands)
            declared += envs.size
        # Now and then only: declarations between two looks ahead pile up.
        legal = env.observation()["mask"][:, take_base] > 0
        actions = np.where(legal & (step % 3 == 0), take_base, 0)
        taken += int((actions > 0).sum())
        _, reward, _, _ = env.step(actions)
        np.testing.assert_allclose(reward, 0.0, atol=1e-9)
    assert declared > 50 and taken > 50


def test_learned_agents_are_for_ppo() -> None:
    with pytest.raises(UserError, match="trained by PPO only: take --algo ppo") as caught:
        settings(1, "training.algo=dqn")
    assert len(str(caught.value)) < 160 and "\n" not in str(caught.value)


def test_a_fresh_agent_asks_for_all_it_can_use() -> None:
    from marl_sched.models.agent import AgentNetwork, AgentSizes

    network = AgentNetwork(AgentSizes(features=3, levels=6))
    network.initialise_head(honest=2.0)
    mask = torch.tensor([[1, 0, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0], [1] * 6])
    chances = network({"own": torch.randn(3, 3), "mask": mask}).softmax(dim=-1)
    most = mask.sum(dim=-1) - 1
    assert (chances.argmax(dim=-1) == most).all() and (chances[mask == 0] == 0).all()
    honest = chances[torch.arange(3), most]
    expected = torch.tensor([1.0, 1 / (1 + np.exp(-2)), 1 / (1 + np.exp(-2))])
    torch.testing.assert_close(honest, expected.float())
