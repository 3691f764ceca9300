"""The scheduler's reward: zero for the base schedule, and percent better than it in sum."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray.rllib.utils.typing import MultiAgentDict

from marl_sched.config import Config, RewardWeights
from marl_sched.envs import SchedulingEnv
from marl_sched.envs import state as game
from marl_sched.envs.batched import BatchedSchedulingEnv
from marl_sched.envs.episodes import make_world
from marl_sched.envs.state import reward_weights
from marl_sched.evaluation.simulate import play_episode
from marl_sched.schedulers import get_scheduler
from marl_sched.sim import columns as c
from tests.envs.games import config, masked_action, traced


def play(env: SchedulingEnv, rng: np.random.Generator | None, seed: int = 0) -> list[float]:
    """One episode, always committing or at random; the rewards."""
    obs, _ = env.reset(seed=seed)
    rewards: list[float] = []
    done: MultiAgentDict = {"__all__": False}
    while not done["__all__"]:
        action = 0 if rng is None else masked_action(rng, obs["scheduler"]["mask"])
        obs, reward, done, _, _ = env.step({"scheduler": action})
        rewards.append(reward["scheduler"])
    return rewards


CREDITS = pytest.mark.parametrize("credit", ["shadow", "lookahead"])


@CREDITS
@pytest.mark.parametrize("behaviour", ["honest", "greedy", "yielding"])
@pytest.mark.parametrize("base", ["elastic_index", "elastic_index:tuned", "fcfs"])
def test_committing_the_base_schedule_earns_exactly_nothing(
    base: str, behaviour: str, credit: str
) -> None:
    everything = {name: 1.0 for name in RewardWeights.model_fields}
    settings = config("full", base=base, agents=behaviour, reward=everything, credit=credit)
    env = SchedulingEnv({"config": settings})
    decisions = 0
    for seed in range(3):
        rewards = play(env, None, seed)
        decisions += len(rewards)
        assert all(reward == 0.0 for reward in rewards)
        summary = env.core.episode_summary(0)
        assert summary["return"] == 0.0
        assert summary["avg_jct_s"] == pytest.approx(summary["shadow_avg_jct_s"], rel=1e-12)
    assert decisions > 10


def base_costs(env: SchedulingEnv, settings: Config) -> np.ndarray:
    """(7,) costs of the base schedule on the episode of `env`, from a run of its own."""
    core = env.core
    world = make_world(settings, core.workload, 1, core.window)
    episode = core._episode[0]
    scheduler = get_scheduler(settings.env.base)
    play_episode(world, 0, episode.first, episode.end, episode.stretch, scheduler)
    return np.array(world.cost[0])


@CREDITS
@pytest.mark.parametrize("term", RewardWeights.model_fields)
def test_rewards_add_up_to_percent_better_than_the_base(term: str, credit: str) -> None:
    settings = config("full", reward={"completion_time": 0.0, term: 1.0}, credit=credit)
    env = SchedulingEnv({"config": settings})
    position = list(RewardWeights.model_fields).index(term)
    # A schedule without a restart or a miss is measured in cluster-seconds, or in events.
    floor = {"preemption": 12.0, "fairness": 1.0, "deadline": 1.0}.get(term, 0.0)
    for seed in range(3):
        rewards = play(env, np.random.default_rng(seed), seed)
        shadow = base_costs(env, settings)[position]
        own = env.core.world.cost[0, position]
        expected = 100.0 * (shadow - own) / max(shadow, floor)
        assert sum(rewards) == pytest.approx(expected, rel=1e-7, abs=1e-7)
        if term != "deadline":  # synthetic jobs have none
            assert abs(expected) > 1e-3
        assert env.core.episode_summary(0)["return"] == pytest.approx(sum(rewards), abs=1e-9)


def test_the_shadow_pays_what_was_saved_until_now() -> None:
    """At every decision: the shadow's job-seconds so far, less the own, over the shadow's all."""
    settings = config("full", credit="shadow")
    env = BatchedSchedulingEnv(settings, 1, seed=6)
    obs, rng = env.reset(), np.random.default_rng(6)
    episode = env._episode[0]
    shadow = make_world(settings, env.workload, 1, env.window)
    scheduler = get_scheduler(settings.env.base)
    play_episode(shadow, 0, episode.first, episode.end, episode.stretch, scheduler)
    arrival_s, finish_s = shadow.result[0, [c.FINAL_ARRIVAL_S, c.FINAL_FINISH_S]]
    done, total, steps = np.zeros(1, bool), 0.0, 0
    while True:
        obs, reward, _, done = env.step(np.array([masked_action(rng, obs["mask"][0])]))
        if done[0]:
            break
        total += reward[0]
        now = env.world.env_f[0, c.NOW_S]
        waited = np.clip(np.minimum(finish_s, now) - arrival_s, 0.0, None).sum()
        saved = waited - env.world.cost[0, c.COST_COMPLETION]
        expected = 100.0 * saved / (finish_s - arrival_s).sum()
        assert total == pytest.approx(expected, rel=1e-6, abs=1e-6)
        steps += 1
    assert steps > 30


def test_the_shadow_finds_room_however_often_it_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    def rewards() -> list[float]:
        env = BatchedSchedulingEnv(config("meta", credit="shadow"), 2, seed=1)
        env.reset()
        return [float(r) for _ in range(80) for r in env.step(np.array([2, 3]))[1]]

    expected = rewards()
    monkeypatch.setattr(game, "FIRST_CURVE", 3)
    assert rewards() == expected
    assert any(expected)


def test_the_weights_mix_the_terms() -> None:
    given = {"completion_time": 3.0, "slowdown": 2.0, "energy": 5.0}
    settings = config("full", reward=given)
    env = SchedulingEnv({"config": settings})
    total = sum(play(env, np.random.default_rng(5)))
    shadow, own = base_costs(env, settings), env.core.world.cost[0]
    better = 100.0 * (shadow - own) / np.maximum(shadow, 1e-9)
    expected = 0.3 * better[c.COST_COMPLETION] + 0.2 * better[c.COST_SLOWDOWN]
    expected += 0.5 * better[c.COST_ENERGY]
    assert total == pytest.approx(expected, rel=1e-7)


def test_a_sub_step_earns_and_takes_nothing() -> None:
    env = BatchedSchedulingEnv(config("edit"), 1, seed=1)
    obs, rng, sub_steps = env.reset(), np.random.default_rng(0), 0
    for _ in range(300):
        action = masked_action(rng, obs["mask"][0])
        last_edit = env.game.edits[0] == 2
        obs, reward, dt_s, _ = env.step(np.array([action]))
        if action != 0 and not last_edit:
            sub_steps += 1
            assert reward[0] == 0.0 and dt_s[0] == 0.0
        else:
            assert dt_s[0] > 0.0
    assert sub_steps > 50


@pytest.mark.parametrize(
    "given",
    [{}, {"completion_time": 0.2, "energy": 0.6}, dict.fromkeys(RewardWeights.model_fields, 7.0)],
)
def test_weights_are_on_the_simplex(given: dict[str, Any]) -> None:
    settings = config(reward=given)
    weights = reward_weights(settings.env)
    assert weights.shape == (7,)
    assert (weights >= 0).all() and weights.sum() == pytest.approx(1.0)
    asked = np.array(list(settings.env.reward.model_dump().values()))
    np.testing.assert_allclose(weights * asked.sum(), asked)
    seen = BatchedSchedulingEnv(settings, 2, seed=0).reset()["weights"]
    np.testing.assert_allclose(seen, np.tile(weights, (2, 1)), rtol=1e-6)


def test_an_episode_summary_is_what_happened() -> None:
    env = BatchedSchedulingEnv(config("meta"), 1, seed=2)
    env.reset()
    steps = 0
    done = np.zeros(1, bool)
    rewards = 0.0
    while not done[0]:
        _, reward, _, done = env.step(np.array([2]))  # srtf, always
        rewards += reward[0]
        steps += 1
    (summary,) = env.pop_episodes()
    assert env.pop_episodes() == []
    assert summary["decisions"] == steps
    assert summary["num_jobs"] == 24
    assert summary["return"] == pytest.approx(rewards)
    # Completion time alone is weighed: the return is the saving in JCT.
    assert summary["jct_vs_base_percent"] == pytest.approx(-summary["return"])
    ratio = summary["avg_jct_s"] / summary["shadow_avg_jct_s"]
    assert summary["jct_vs_base_percent"] == pytest.approx(100 * (ratio - 1))


def test_what_agents_declare_earns_the_scheduler_nothing() -> None:
    """A decision earns what it saves against committing, both with the demands as declared now.

    Found by playing both to the end from one state. Without booking the expected cost anew after
    declarations, the scheduler is paid for what the agents have changed.
    """
    settings = config("meta", agents="learned", job_slots=24, demand_period_s=2000.0)
    env = BatchedSchedulingEnv(settings, 1, seed=0)
    env.reset()
    rng, checked = np.random.default_rng(0), 0
    while checked < 6:
        envs, slots = env.agents.due()
        if slots.size:
            seen = env.agents.observe(envs, slots)
            demands = np.array([masked_action(rng, mask) for mask in seen["mask"]])
            env.agents.declare(envs, slots, seen, demands)
        before, anew = env.get_state(), bool(env.game.redeclared[0])
        action = masked_action(rng, env.observation()["mask"][0])
        reward, _, ended = env.step_one(0, action)
        if ended:
            env.begin_drawn(0)
            continue
        if not anew or reward == 0.0:
            continue
        after = env.get_state()
        saved = committed_cost(env, before) - committed_cost(env, after)
        env.set_state(after)
        assert reward == pytest.approx(100.0 * saved / env.game.norm[0, c.COST_COMPLETION])
        checked += 1


def committed_cost(env: BatchedSchedulingEnv, state: dict[str, Any]) -> float:
    """Job-seconds of the episode if the base schedule is committed from `state` on and nobody
    declares any more."""
    env.set_state(state)
    while not env.step_one(0, 0)[2]:
        pass
    return float(env.world.cost[0, c.COST_COMPLETION])


def test_useful_work_counts_as_it_is_done(tmp_path: Path) -> None:
    """One GPU that always works, on whichever job: the shadow has done as much at any time.

    The shadow, FCFS, runs the first job without a break; its work since it started has to count
    before it is booked.
    """
    trace = tmp_path / "jobs.csv"
    jobs = [(0, 100), (10, 10), (12, 200)]
    rows = [f"{part * 1e6 + t},{s},1,resnet18,false" for part in range(3) for t, s in jobs]
    trace.write_text("\n".join(["arrival_s,duration_s,num_gpus,model,elastic", *rows]) + "\n")
    useful = {"completion_time": 0.0, "utilisation": 1.0}
    settings = traced(
        trace, "1x1", actions="meta", base="fcfs", credit="shadow", reward=useful,
        jobs_per_episode=3,
    )  # fmt: skip
    sim = settings.sim.model_copy(update={"restart_scale": 0.0})
    env = BatchedSchedulingEnv(settings.model_copy(update={"sim": sim}), 1, seed=0)
    env.reset()
    srtf, times, ended = 2, [], False
    while not ended:
        times.append(float(env.world.env_f[0, c.NOW_S]))
        reward, _, ended = env.step_one(0, srtf)
        assert reward == pytest.approx(0.0, abs=1e-9)
    # The short job runs first, while the long one arrives.
    assert times == pytest.approx([10.0, 12.0, 20.0])
