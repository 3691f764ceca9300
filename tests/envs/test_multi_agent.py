"""The `MultiAgentEnv`, its batched twin, and RLlib's own checks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ray.rllib.env.multi_agent_env import MultiAgentEnv
from ray.rllib.env.multi_agent_episode import MultiAgentEpisode
from ray.rllib.utils.pre_checks.env import check_multiagent_environments
from ray.tune.registry import ENV_CREATOR, _global_registry

from marl_sched.envs import SchedulingEnv
from marl_sched.envs.batched import BatchedSchedulingEnv
from marl_sched.envs.multi_agent import ENV_NAME, SCHEDULER
from marl_sched.errors import UserError
from tests.envs.games import UP, config, masked_action

LEARNED: dict[str, Any] = {"agents": "learned", "demand_period_s": 1500.0}


def assert_same_observation(mine: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert mine.keys() == theirs.keys()
    for key, value in mine.items():
        np.testing.assert_array_equal(value, theirs[key], err_msg=key)
        assert value.dtype == theirs[key].dtype


def row(batch: dict[str, np.ndarray], b: int = 0) -> dict[str, np.ndarray]:
    return {key: value[b] for key, value in batch.items()}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"part": "foo"}, "part 'foo' of the workload is none of train, validation, test, whole"),
        ({"part": "tets"}, "is none of .*; do you mean test"),
        ({"part": None}, "part None of the workload"),
        ({"parts": "test"}, "unknown key 'parts'; known: config, seed, part; do you mean part"),
        ({"cluster": "4x4"}, "unknown key 'cluster'; known: config, seed, part"),
        ({1: 2}, "unknown key 1"),
        ({"seed": "one"}, "key 'seed' needs a whole number >= 0, not 'one'"),
        ({"seed": -1}, "key 'seed' needs a whole number"),
        ({"seed": 1.5}, "key 'seed' needs a whole number"),
        ({"config": "4x4"}, "key 'config' needs a Config or its nested dictionary"),
        ({"config": {"clustr": "4x4"}}, "unknown setting 'clustr'"),
        ([("part", "test")], "needs a dictionary with config, seed, part"),
        ("x" * 70_000, "needs a dictionary"),
    ],
)
def test_what_an_environment_is_not_made_with(given: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        SchedulingEnv(given)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("credit", ["shadow", "lookahead"])
@pytest.mark.parametrize("actions", ["meta", "edit", "full"])
def test_the_batched_twin_is_equal_step_by_step(actions: str, credit: str) -> None:
    settings = config(actions, credit=credit)
    env = SchedulingEnv({"config": settings, "seed": 11})
    twin = BatchedSchedulingEnv(settings, 1, seed=11)
    rng = np.random.default_rng(0)
    obs, _ = env.reset()
    theirs = twin.reset()
    episodes = []
    for _ in range(600):
        assert_same_observation(obs[SCHEDULER], row(theirs))
        action = masked_action(rng, obs[SCHEDULER]["mask"])
        obs, reward, done, truncated, info = env.step({SCHEDULER: action})
        theirs, their_reward, dt_s, their_done = twin.step(np.array([action]))
        assert reward == {SCHEDULER: their_reward[0]}
        assert info[SCHEDULER]["dt_s"] == dt_s[0]
        assert done["__all__"] == their_done[0]
        assert not truncated["__all__"]
        if done["__all__"]:
            assert done[SCHEDULER]
            episodes.append({k: v for k, v in info[SCHEDULER].items() if k != "dt_s"})
            obs, _ = env.reset()  # the twin has started the next episode by itself
    assert len(episodes) > 3
    assert twin.pop_episodes() == episodes


def test_the_batched_twin_is_equal_with_learned_agents() -> None:
    settings = config("edit", **LEARNED)
    env = SchedulingEnv({"config": settings, "seed": 12})
    twin = BatchedSchedulingEnv(settings, 1, seed=12)
    rng = np.random.default_rng(0)
    obs, _ = env.reset()
    theirs = twin.reset()
    declared = episodes = 0
    for _ in range(1000):
        envs, slots = twin.agents.due()
        assert sorted(obs) == (sorted(f"job_{k}" for k in slots) if slots.size else [SCHEDULER])
        if slots.size:
            seen = twin.agents.observe(envs, slots)
            for j, k in enumerate(slots):
                assert_same_observation(obs[f"job_{k}"], row(seen, j))
            demands = np.array([masked_action(rng, mask) for mask in seen["mask"]])
            twin.agents.declare(envs, slots, seen, demands)
            actions = {f"job_{k}": int(d) for k, d in zip(slots, demands, strict=True)}
            obs, *_ = env.step(actions)
            theirs = twin.observation()
            declared += slots.size
        assert_same_observation(obs[SCHEDULER], row(theirs))
        action = masked_action(rng, obs[SCHEDULER]["mask"])
        obs, reward, done, _, _ = env.step({SCHEDULER: action})
        theirs, their_reward, _, their_done = twin.step(np.array([action]))
        assert reward[SCHEDULER] == their_reward[0]
        assert done["__all__"] == their_done[0]
        if done["__all__"]:
            episodes += 1
            obs, _ = env.reset()
    assert declared > 100 and episodes > 2


def test_a_batch_is_so_many_games_of_their_own() -> None:
    """Three environments side by side: stepping the others changes nothing for one."""
    settings = config("full")
    batch = BatchedSchedulingEnv(settings, 3, seed=5)
    rng = np.random.default_rng(1)
    obs = batch.reset()
    alone = []
    for b in range(3):
        env = BatchedSchedulingEnv(settings, 1, seed=0)
        env.begin(0, batch._episode[b])
        alone.append(env)
    running = [True] * 3
    for _ in range(60):
        actions = np.array([masked_action(rng, mask) for mask in obs["mask"]])
        obs, reward, dt_s, done = batch.step(actions)
        for b in range(3):
            if not running[b]:
                continue
            mine, my_reward, my_dt_s, my_done = alone[b].step(actions[b : b + 1])
            assert (my_reward[0], my_dt_s[0], my_done[0]) == (reward[b], dt_s[b], done[b])
            running[b] = not done[b]
            if running[b]:
                assert_same_observation(row(mine), row(obs, b))


@pytest.mark.parametrize("behaviour", ["honest", "greedy", "yielding", "learned"])
@pytest.mark.parametrize("actions", ["meta", "edit", "full"])
def test_rllibs_environment_checks_pass(actions: str, behaviour: str) -> None:
    env = SchedulingEnv({"config": config(actions, agents=behaviour)})
    assert isinstance(env, MultiAgentEnv)
    check_multiagent_environments(env)
    assert set(env.agents) == set(env.possible_agents) == set(env.observation_spaces)
    assert env.possible_agents[0] == SCHEDULER
    assert len(env.possible_agents) == (1 + 8 if behaviour == "learned" else 1)


def test_it_is_registered_with_ray() -> None:
    creator = _global_registry.get(ENV_CREATOR, ENV_NAME)
    env = creator({"config": config().model_dump()})
    assert isinstance(env, SchedulingEnv)
    assert env.config == config()


@pytest.mark.parametrize("behaviour", ["honest", "learned"])
def test_rllibs_episodes_take_every_step(behaviour: str) -> None:
    """RLlib books observations, actions and rewards by agent; it refuses what does not add up."""
    settings = config("edit", **(LEARNED if behaviour == "learned" else {}))
    env = SchedulingEnv({"config": settings, "seed": 3})
    rng = np.random.default_rng(2)
    episode = MultiAgentEpisode(
        observation_space=env.observation_spaces, action_space=env.action_spaces,
        agent_to_module_mapping_fn=lambda agent, _: "scheduler" if agent == SCHEDULER else "agent",
    )  # fmt: skip
    obs, infos = env.reset()
    episode.add_env_reset(observations=obs, infos=infos)
    earned: dict[str, float] = {}
    done = {"__all__": False}
    steps = 0
    while not done["__all__"]:
        actions = {agent: masked_action(rng, seen["mask"]) for agent, seen in obs.items()}
        obs, rewards, done, truncated, infos = env.step(actions)
        for agent, reward in rewards.items():
            earned[agent] = earned.get(agent, 0.0) + reward
        episode.add_env_step(
            observations=obs, actions=actions, rewards=rewards, infos=infos,
            terminateds=done, truncateds=truncated,
        )  # fmt: skip
        steps += 1
    assert episode.is_done
    assert episode.env_t == steps
    booked = {agent: sum(episode.get_rewards(agent_ids=[agent])[agent]) for agent in earned}
    assert booked == pytest.approx(earned)
    assert (len(earned) > 3) == (behaviour == "learned")


def test_get_state_and_set_state_go_on_identically() -> None:
    settings = config("full", **LEARNED)
    env = BatchedSchedulingEnv(settings, 3, seed=7)
    rng = np.random.default_rng(0)

    def advance(env: BatchedSchedulingEnv, rng: np.random.Generator, steps: int) -> list[Any]:
        trail: list[Any] = []
        for _ in range(steps):
            envs, slots = env.agents.due()
            if envs.size:
                seen = env.agents.observe(envs, slots)
                demands = np.array([masked_action(rng, mask) for mask in seen["mask"]])
                env.agents.declare(envs, slots, seen, demands)
            actions = [masked_action(rng, mask) for mask in env.observation()["mask"]]
            obs, reward, dt_s, done = env.step(np.array(actions))
            trail.append((obs, reward, dt_s, done))
        declarations = env.agents.pop()
        assert declarations is not None
        return [trail, env.pop_episodes(), vars(declarations)]

    env.reset()
    advance(env, rng, 400)
    state, rng_state = env.get_state(), rng.bit_generator.state
    expected = advance(env, rng, 400)
    assert len(expected[1]) > 3  # new episodes were drawn meanwhile
    other = BatchedSchedulingEnv(settings, 3, seed=99)
    other.reset()
    for again in (env, other):
        again.set_state(state)
        rng.bit_generator.state = rng_state
        np.testing.assert_equal(advance(again, rng, 400), expected)


def test_equal_seeds_give_equal_episodes() -> None:
    def trail(seed: int) -> list[Any]:
        env = BatchedSchedulingEnv(config("meta"), 2, seed=seed)
        obs = env.reset()
        steps = [obs["jobs"]]
        for _ in range(120):
            obs, reward, _, _ = env.step(np.array([1, 2]))
            steps += [obs["jobs"], reward]
        assert len(env.pop_episodes()) > 1
        return steps

    first, again, other = trail(3), trail(3), trail(4)
    np.testing.assert_equal(again, first)
    assert any((a != b).any() for a, b in zip(first, other, strict=True))

    # RLlib seeds the environment at its reset.
    env = SchedulingEnv({"config": config("meta")})
    one = env.reset(seed=5)[0][SCHEDULER]
    env.reset(seed=6)
    assert_same_observation(env.reset(seed=5)[0][SCHEDULER], one)


def test_observations_belong_to_the_caller() -> None:
    env = BatchedSchedulingEnv(config("full"), 2, seed=0)
    first = env.reset()
    kept = {key: value.copy() for key, value in first.items()}
    up = int(np.flatnonzero(first["mask"][0, UP:])[0]) + UP
    env.step(np.array([up, 0]))
    assert_same_observation(first, kept)
