"""A run that goes on from another's checkpoint under other settings, as in population training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from marl_sched.config import Config, load_config, validate_config
from marl_sched.schedulers.learned.scorer_file import load_record, save_scorer
from marl_sched.training.es import EvolutionStrategies
from marl_sched.training.records import RunFolder
from marl_sched.training.rllib import RLlibTrainer
from marl_sched.training.rollout import SCHEDULER
from marl_sched.training.runner import DEFAULT_ENV_CLASS
from marl_sched.tuning.trial import Job, run_job
from tests.training.fake_env import PATH
from tests.training.test_train import score, settings
from tests.tuning import pages

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_local")]


def learner_of(trainer: RLlibTrainer) -> Any:
    return trainer._algorithm.learner_group._learner


def optimiser_of(trainer: RLlibTrainer) -> torch.optim.Optimizer:
    (optimiser,) = learner_of(trainer)._named_optimizers.values()
    return optimiser


def weights_of(trainer: RLlibTrainer) -> dict[str, np.ndarray]:
    """Copies: those that RLlib gives are the learner's own memory."""
    weights = trainer._algorithm.learner_group.get_weights()[SCHEDULER]
    return {name: np.array(value) for name, value in weights.items()}


def moments(trainer: RLlibTrainer) -> list[np.ndarray]:
    """Adam's running means, their squares' and its count of steps, of each parameter."""
    states = optimiser_of(trainer).state.values()
    keys = ("exp_avg", "exp_avg_sq", "step")
    return [one[key].numpy().copy() for one in states for key in keys]


@pytest.mark.parametrize("algo", ["ppo", "dqn"])
def test_a_child_has_its_parents_state_and_its_own_settings(tmp_path: Path, algo: str) -> None:
    parent = RLlibTrainer(settings(algo, 2), PATH, score)
    # So small a step that float32 cannot show it: what moves the network is the parent's.
    still = [f"training.{algo}.lr=1e-12"]
    still += ["training.ppo.entropy=0.25"] if algo == "ppo" else []
    child = RLlibTrainer(settings(algo, 4, *still), PATH, score)
    try:
        rows = [parent.iterate(), parent.iterate()]
        parent.save_to_path(str(tmp_path / "parent"))
        fresh = weights_of(child)
        child.restore_from_path(str(tmp_path / "parent"))
        inherited = weights_of(child)
        assert any((inherited[name] != fresh[name]).any() for name in fresh)
        np.testing.assert_equal(inherited, weights_of(parent))
        np.testing.assert_equal(moments(child), moments(parent))
        rates = {group["lr"] for group in optimiser_of(parent).param_groups}
        assert rates != {1e-12}
        assert {group["lr"] for group in optimiser_of(child).param_groups} == {1e-12}

        row = child.iterate()
        assert row["decisions"] == rows[-1]["decisions"] + 2048
        assert child._algorithm.training_iteration == 3
        assert max(moments(child)[2::3]) > max(moments(parent)[2::3])  # it has learned on
        for name, value in weights_of(child).items():
            if not name.startswith("value"):  # its units follow its targets
                np.testing.assert_allclose(value, inherited[name], atol=1e-8)
        parent.iterate()
        moved = weights_of(parent)
        assert any(np.abs(moved[name] - inherited[name]).max() > 1e-3 for name in moved)
        if algo == "ppo":
            schedule = learner_of(child).entropy_coeff_schedulers_per_module[SCHEDULER]
            assert schedule.get_current_value() == 0.25
            assert row["policy_loss"] is not None
    finally:
        parent.stop()
        child.stop()


def weighing(term: str) -> Config:
    given = [
        "env.reward.completion_time=0",
        f"env.reward.{term}=1",
        "training.minutes=null",
        "training.iterations=2",
    ]
    given += ["workload.synthetic.num_jobs=600", "training.ppo.batch_size=64"]
    given += ["training.num_envs_per_runner=4", "training.ppo.minibatch_size=64"]
    return load_config(None, given, defaults=pages.SWEEP.defaults(False))


def test_a_child_is_rewarded_by_its_own_weights_from_its_first_decision(tmp_path: Path) -> None:
    parent = RLlibTrainer(weighing("slowdown"), DEFAULT_ENV_CLASS, score)
    child = RLlibTrainer(weighing("utilisation"), DEFAULT_ENV_CLASS, score)
    again = RLlibTrainer(weighing("slowdown"), DEFAULT_ENV_CLASS, score)
    try:
        parent.iterate()
        parent.save_to_path(str(tmp_path / "parent"))
        child.restore_from_path(str(tmp_path / "parent"))
        again.restore_from_path(str(tmp_path / "parent"))
        seen = [one._algorithm.env_runner for one in (parent, child, again)]
        before, after, same = (one.sample(num_timesteps=40)[0].modules[SCHEDULER] for one in seen)
        assert (after.obs["weights"][..., 3] == 1).all()  # of utilisation
        assert (after.obs["weights"].sum(axis=-1) == 1).all()
        assert (before.obs["weights"][..., 1] == 1).all()
        # With its own weights the parent's episodes go on where they were.
        np.testing.assert_equal(same.obs, before.obs)
        np.testing.assert_equal(same.rewards, before.rewards)
    finally:
        for one in (parent, child, again):
            one.stop()


def scorer_job(folder: Path, term: str, **more: Any) -> Job:
    given = [
        "training.algo=es", "training.iterations=1", "training.minutes=null",
        "training.num_env_runners=0", "training.validation_every=1",
        "training.validation_episodes=2", "training.es.pairs=3", "training.es.sequences=2",
        "training.es.lr=0.3", "env.jobs_per_episode=40", "workload.synthetic.num_jobs=400",
        "cluster=4x4", "env.reward.completion_time=0", f"env.reward.{term}=1",
    ]  # fmt: skip
    config = load_config(None, given).model_dump(mode="json")
    config["training"]["iterations"] = more.get("budget", 1)
    values: dict[str, Any] = {}
    place: dict[str, Any] = {"folder": str(folder), "parent": None, "rungs": (), "cutoffs": {}}
    return Job(number=0, name=folder.name, seed=0, values=values, config=config, **place | more)


def test_a_scorer_is_kept_by_the_childs_own_weights(tmp_path: Path) -> None:
    """Its parent's best has a score that the child could never reach, of other weights."""
    parent, child = tmp_path / "parent", tmp_path / "child"
    assert run_job(scorer_job(parent, "slowdown"), lambda row: None).state == "done"
    best = RunFolder(parent).best
    save_scorer(replace(load_record(best), validation=-99.0, iteration=1), best)
    job = scorer_job(child, "preemption", parent=str(parent), budget=2)
    outcome = run_job(job, lambda row: None)
    assert outcome.state == "done" and outcome.budget == 2
    kept = load_record(RunFolder(child).best)

    es = EvolutionStrategies(validate_config(job.config))
    es.restore_from_path(str(parent / "checkpoints" / "iter_1"))
    inherited = es.candidate(1, False).score()
    (row,) = RunFolder(child).rows()
    found = {0: 0.0, 1: inherited, 2: row["validation_percent"]}
    assert kept.validation == pytest.approx(min(found.values()), rel=1e-5)
    assert found[kept.iteration] == pytest.approx(kept.validation, rel=1e-5)
    assert kept.config["env"]["reward"]["preemption"] == 1.0
    assert outcome.figures["validation_percent"] == pytest.approx(kept.validation)
