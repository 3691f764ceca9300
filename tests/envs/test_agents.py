"""How deep-learning agents declare their demand, and what they earn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from marl_sched.envs import SchedulingEnv
from marl_sched.envs.batched import BatchedSchedulingEnv
from marl_sched.envs.episodes import Episode
from marl_sched.envs.learned_agents import agent_action_space, agent_observation_space
from marl_sched.envs.multi_agent import SCHEDULER
from marl_sched.envs.state import AGENT_FEATURES
from marl_sched.sim import columns as c
from tests.envs.games import active_jobs, config, masked_action, proposed, traced


def limits(env: BatchedSchedulingEnv) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """GPUs of request, limit and largest size of the active jobs."""
    world = env.world
    rows = range(int(world.env_k[0, c.NUM_ACTIVE]))
    profile = world.slot_k[0, c.PROFILE, : len(rows)]
    return tuple(
        world.sizes[profile, levels]
        for levels in (
            world.slot_k[0, c.REQUEST_LEVEL, : len(rows)],
            world.slot_k[0, c.LIMIT_LEVEL, : len(rows)],
            world.num_levels[profile],
        )
    )  # type: ignore[return-value]


def test_honest_agents_ask_for_their_request() -> None:
    env = BatchedSchedulingEnv(config("full"), 1, seed=0)
    env.reset()
    beyond = 0
    for _ in range(200):
        request, limit, most = limits(env)
        assert request.tolist() == env.workload.num_gpus[active_jobs(env)].tolist()
        assert limit.tolist() == most.tolist()
        beyond += int((limit > request).sum())
        env.step(np.array([0]))
    assert beyond > 50


def test_greedy_agents_ask_for_all_they_can_use() -> None:
    honest, greedy = (
        BatchedSchedulingEnv(config("full", agents=behaviour, base="fcfs"), 1, seed=0)
        for behaviour in ("honest", "greedy")
    )
    greedy.reset()
    for _ in range(100):
        request, limit, most = limits(greedy)
        assert request.tolist() == limit.tolist() == most.tolist()
        greedy.step(np.array([0]))
    # FCFS serves requests: over-asking makes jobs wait for more GPUs, and run faster.
    episode = Episode(0, 24)
    for env in (honest, greedy):
        env.play_fixed(lambda obs: np.zeros(len(obs["mask"]), int), [episode])
    mine, theirs = greedy.world.result[0], honest.world.result[0]
    assert mine[c.FINAL_FIRST_START_S].sum() > theirs[c.FINAL_FIRST_START_S].sum()
    held_gpus = mine[c.FINAL_ATTAINED_GPU_S] / mine[c.FINAL_HELD_S]
    assert held_gpus.sum() > 1.2 * honest.workload.num_gpus[:24].sum()


def test_yielding_agents_leave_room_when_others_wait() -> None:
    env = BatchedSchedulingEnv(config("full", agents="yielding", base="fcfs"), 1, seed=0)
    env.reset()
    crowded_rounds = free_rounds = gave_way = 0
    for _ in range(300):
        request, limit, most = limits(env)
        world = env.world
        active = len(limit)
        sizes = world.sizes[world.slot_k[0, c.PROFILE, :active]]
        if (world.slot_k[0, c.LEVEL, :active] == 0).any():
            # At most a fair share, but never less than the smallest size.
            fair = np.maximum(12 / active, sizes[:, 1])
            assert (limit <= fair).all()
            gave_way += int((limit < most).sum())
            crowded_rounds += 1
        else:
            assert limit.tolist() == most.tolist()
            free_rounds += 1
        assert (request <= limit).all()
        env.step(np.array([0]))
    assert min(crowded_rounds, free_rounds, gave_way) > 10


def test_learned_agents_bind_the_scheduler() -> None:
    """Whatever is declared is the most that the base schedule and the mask give."""
    env = BatchedSchedulingEnv(
        config("edit", agents="learned", job_slots=24, demand_period_s=1e9), 1, seed=0
    )
    env.reset()
    episode_of: dict[int, int] = {}
    rng = np.random.default_rng(0)
    for _ in range(300):
        envs, slots = env.agents.due()
        if slots.size:
            seen = env.agents.observe(envs, slots)
            demands = np.array([masked_action(rng, mask) for mask in seen["mask"]])
            jobs = active_jobs(env)[env.game.slot[0, slots]]
            assert not set(jobs.tolist()) & set(episode_of), "declared twice"
            episode_of |= dict(zip(jobs.tolist(), (demands + 1).tolist(), strict=True))
            env.agents.declare(envs, slots, seen, demands)
            assert env.agents.due()[0].size == 0
        levels = [episode_of[job] for job in active_jobs(env).tolist()]
        active = len(levels)
        assert env.world.slot_k[0, c.LIMIT_LEVEL, :active].tolist() == levels
        assert env.world.slot_k[0, c.REQUEST_LEVEL, :active].tolist() == levels
        assert (env.game.proposal[0, :active] <= levels).all()
        _, _, _, done = env.step(np.array([0]))
        if done[0]:
            episode_of = {}


def test_a_learned_agent_declares_again_after_its_period() -> None:
    env = BatchedSchedulingEnv(
        config("edit", agents="learned", job_slots=24, demand_period_s=2000.0), 1, seed=0
    )
    env.reset()
    last: dict[int, float] = {}
    again = 0
    for _ in range(300):
        now_s = float(env.world.env_f[0, c.NOW_S])
        envs, slots = env.agents.due()
        due = set(active_jobs(env)[env.game.slot[0, slots]].tolist())
        for job in active_jobs(env).tolist():
            assert (job in due) == (job not in last or now_s - last[job] >= 2000.0)
            again += job in due and job in last
        last |= dict.fromkeys(due, now_s)
        if slots.size:
            seen = env.agents.observe(envs, slots)
            env.agents.declare(envs, slots, seen, np.zeros(len(slots), int))
        _, _, _, done = env.step(np.array([0]))
        last = {} if done[0] else last
    assert again > 20


def three_jobs(tmp_path: Path) -> Path:
    """One job for each part: far apart, elastic, 400 s on its request of 2."""
    trace = tmp_path / "jobs.csv"
    rows = [f"{i * 1e6},400,2,resnet18,true,1,4" for i in range(3)]
    header = "arrival_s,duration_s,num_gpus,model,elastic,min_gpus,max_gpus"
    trace.write_text("\n".join([header, *rows]) + "\n")
    return trace


@pytest.mark.parametrize("price", [0.0, 6.0])
def test_what_an_agent_earns_alone_by_hand(tmp_path: Path, price: float) -> None:
    settings = traced(
        three_jobs(tmp_path), "1x4", agents="learned", demand_period_s=1e9, demand_price=price
    )
    earned = []
    env = SchedulingEnv({"config": settings})
    world = env.core.world
    assert world.sizes[0].tolist() == [0, 1, 2, 4]
    for level in (1, 2, 3):
        obs, _ = env.reset()
        assert list(obs) == ["job_0"]
        assert obs["job_0"]["mask"].tolist() == [1, 1, 1] + [0] * 13
        obs, reward, done, _, _ = env.step({"job_0": level - 1})
        assert list(obs) == [SCHEDULER] and reward == {SCHEDULER: 0.0}
        rewards: list[float] = []
        while not done["__all__"]:
            obs, reward, done, _, _ = env.step({SCHEDULER: 0})
            rewards += [reward["job_0"]] if "job_0" in reward else []
        # Alone at speed s it takes 400/s seconds for 400 s of work, so 1 - 1/s of its duration
        # is gained; it pays for k GPUs over that time, per GPU of its request of 2.
        speed, gpus = float(world.rates[0, 0, level, 0]), int(world.sizes[0, level])
        assert sum(rewards) == pytest.approx(1 - 1 / speed - price * gpus / (2 * speed))
        earned.append(sum(rewards))
    assert earned[1] == pytest.approx(-price)  # its request: as fast as it expected
    if price == 0.0:
        assert earned[0] < 0 < earned[2]
    else:
        assert earned[2] < earned[1]  # here more GPUs are not worth their price


def test_agents_earn_one_less_their_slowdown(tmp_path: Path) -> None:
    price = 0.3
    settings = config(
        "edit", agents="learned", job_slots=24, demand_period_s=1e9, demand_price=price
    )
    env = BatchedSchedulingEnv(settings, 1, seed=0)
    rng = np.random.default_rng(0)
    env.play_fixed(
        lambda obs: np.array([masked_action(rng, mask) for mask in obs["mask"]]),
        [Episode(10, 34)],
        lambda obs: np.array([masked_action(rng, mask) for mask in obs["mask"]]),
    )
    env.agents.close_episode(0)
    declared = env.agents.pop()
    assert declared is not None and env.agents.pop() is None
    jobs = env.workload.slice(10, 34)
    result = env.world.result[0]
    jct_s = result[c.FINAL_FINISH_S] - result[c.FINAL_ARRIVAL_S]
    paid = price * result[c.FINAL_ATTAINED_GPU_S] / jobs.num_gpus
    expected = 1 - (jct_s + paid) / jobs.duration_s
    assert sorted(declared.returns) == pytest.approx(sorted(expected))
    assert declared.obs["own"].shape == (24, len(AGENT_FEATURES))
    assert declared.obs["mask"][np.arange(24), declared.actions].all()


def test_agents_see_themselves_and_the_pressure() -> None:
    env = BatchedSchedulingEnv(config("edit", agents="learned"), 2, seed=0)
    env.reset()
    envs, slots = env.agents.due()
    seen = env.agents.observe(envs, slots)
    space = agent_observation_space()
    assert agent_action_space().n == len(space["mask"].sample())
    obs = env.observation()
    for j, (b, k) in enumerate(zip(envs, slots, strict=True)):
        assert space.contains({name: value[j] for name, value in seen.items()})
        np.testing.assert_array_equal(
            seen["own"][j], np.concatenate([obs["jobs"][b, k], obs["globals"][b]])
        )


def test_declared_zero_growth_is_obeyed_to_the_end(tmp_path: Path) -> None:
    """Everybody declares the smallest size: nobody ever holds more."""
    env = BatchedSchedulingEnv(
        config("full", agents="learned", job_slots=24, demand_period_s=1e9), 1, seed=1
    )
    env.reset()
    rng = np.random.default_rng(0)
    for _ in range(200):
        envs, slots = env.agents.due()
        if slots.size:
            seen = env.agents.observe(envs, slots)
            env.agents.declare(envs, slots, seen, np.zeros(len(slots), int))
        action = masked_action(rng, env.observation()["mask"][0])
        env.step(np.array([action]))
        active = len(active_jobs(env))
        assert (env.world.slot_k[0, c.LEVEL, :active] <= 1).all()
        # Jobs that have not declared yet count with their full size.
        fresh = set(env.game.slot[0][env.agents.due()[1]].tolist())
        old = [i for i in range(active) if i not in fresh]
        smallest = env.world.sizes[env.world.slot_k[0, c.PROFILE, old], 1]
        assert (proposed(env.world, env.game)[old] <= smallest).all()
