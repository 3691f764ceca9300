"""Random legal play never breaks a constraint, and the mask says what is legal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from marl_sched.config import Config
from marl_sched.envs import SchedulingEnv
from marl_sched.envs.batched import BatchedSchedulingEnv
from marl_sched.sim import columns as c
from tests.envs.games import (
    ALGORITHMS,
    UP,
    check_constraints,
    config,
    masked_action,
    proposed,
    traced,
)

CLUSTER = """
nodes:
  - {count: 2, gpus: 4, type: T4, cpus: 10, memory_gb: 90}
  - {count: 1, gpus: 6, type: A100, cpus: 20, memory_gb: 300, network_gbps: 40}
"""


@pytest.fixture(scope="module")
def scarce(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A trace whose jobs are bound by CPUs, memory and network, and a mixed cluster for it."""
    folder = tmp_path_factory.mktemp("scarce")
    (folder / "cluster.yaml").write_text(CLUSTER)
    rng = np.random.default_rng(0)
    rows = ["arrival_s,duration_s,num_gpus,cpus_per_gpu,memory_gb_per_gpu,network_gbps_per_gpu"]
    arrival_s = 0.0
    for _ in range(120):
        cpus, memory = rng.choice([0.3, 1.0, 2.4]), rng.choice([0.0, 7.7, 21.0])
        network = rng.choice([0.0, 3.1])
        rows.append(
            f"{arrival_s},{rng.lognormal(6.0, 1.0)},{rng.choice([1, 1, 2, 4])},"
            f"{cpus},{memory},{network}"
        )
        arrival_s += rng.exponential(120.0)
    (folder / "jobs.csv").write_text("\n".join(rows) + "\n")
    return folder / "jobs.csv", str(folder / "cluster.yaml")


def play(settings: Config, steps: int, seed: int) -> int:
    """Random legal play with every constraint checked at every step; episodes that ended."""
    env = SchedulingEnv({"config": settings, "seed": seed})
    world, game = env.core.world, env.core.game
    rng = np.random.default_rng(seed)
    obs, _ = env.reset()
    episodes = 0
    for _ in range(steps):
        actions = {}
        for agent, seen in obs.items():
            assert env.get_observation_space(agent).contains(seen), agent
            assert seen["mask"].sum() >= 1
            actions[agent] = masked_action(rng, seen["mask"])
        obs, _, done, _, _ = env.step(actions)
        check_constraints(world, game)
        if done["__all__"]:
            assert world.env_k[0, c.NUM_ENDED] == env.core.window
            assert not np.isnan(world.result[0]).any()
            episodes += 1
            obs, _ = env.reset()
    return episodes


@pytest.mark.parametrize("actions", ["meta", "edit", "full"])
def test_ten_thousand_random_steps(actions: str, scarce: tuple[Path, str]) -> None:
    trace, cluster = scarce
    assert play(config(actions), 5000, seed=0) > 3
    assert play(traced(trace, cluster, actions=actions, jobs_per_episode=30), 5000, seed=1) > 3


def test_learned_agents_do_not_break_a_constraint_either(scarce: tuple[Path, str]) -> None:
    trace, cluster = scarce
    settings = traced(
        trace, cluster, actions="full", jobs_per_episode=30, agents="learned",
        demand_period_s=500.0,
    )  # fmt: skip
    assert play(settings, 3000, seed=2) > 3


@pytest.mark.parametrize("actions", ["meta", "edit", "full"])
def test_the_mask_is_the_set_of_legal_actions(actions: str) -> None:
    env = BatchedSchedulingEnv(config(actions), 1, seed=4)
    world, game = env.world, env.game
    obs, rng = env.reset(), np.random.default_rng(4)
    edited: set[int] = set()
    opening = True
    seen_up = seen_full = 0
    for _ in range(1500):
        mask = obs["mask"][0]
        rows = game.slot[0]
        assert mask[0] == 1
        assert (mask[1:UP] == (opening and actions != "edit")).all()
        may_edit = actions != "meta" and len(edited) < 3
        gpus = proposed(world, game)
        idle = world.total[0] - gpus.sum()
        for k, i in enumerate(rows.tolist()):
            up, down = int(mask[UP + k]), int(mask[UP + 8 + k])
            if i < 0 or not may_edit or i in edited:
                assert up == 0 and down == 0
                continue
            assert down == (gpus[i] > 0)
            profile, level = world.slot_k[0, c.PROFILE, i], game.proposal[0, i]
            if level == world.slot_k[0, c.LIMIT_LEVEL, i]:
                assert up == 0
                continue
            sizes, rates = world.sizes[profile], world.nominal_rates[profile]
            takeable = idle + sum(g for j, g in enumerate(gpus.tolist()) if j not in edited)
            feasible = sizes[level + 1] <= takeable and rates[level + 1] > rates[level]
            assert up == feasible
            seen_up += up
            seen_full += 1 - up
        action = masked_action(rng, mask, edits=0.8)
        before = game.proposal[0].copy()
        opening_next = action == 0 or (actions == "meta")
        if action >= UP:
            k, up = (action - UP) % 8, action < UP + 8
            edited.add(int(rows[k]))
            opening_next = len(edited) == 3
        obs, _, dt_s, _ = env.step(np.array([action]))
        if not opening_next and action >= UP:
            # The edited job moved one level, in the asked direction; earlier edits stayed.
            i = int(rows[k])
            assert game.proposal[0, i] == before[i] + (1 if up else -1)
            assert all(game.proposal[0, j] == before[j] for j in edited - {i})
        assert (dt_s[0] > 0) == opening_next
        if opening_next:
            edited = set()
        opening = opening_next
    if actions != "meta":
        assert seen_up > 100 and seen_full > 10


def test_an_illegal_action_counts_as_commit() -> None:
    one, other = (BatchedSchedulingEnv(config("meta"), 1, seed=4) for _ in range(2))
    one.reset()
    other.reset()
    for illegal in (UP, UP + 9, -1, 10_000):
        assert illegal >= int(one.action_space.n) or illegal < 0 or one.game.mask[0, illegal] == 0
        mine = one.step(np.array([illegal]))
        theirs = other.step(np.array([0]))
        for key in mine[0]:
            np.testing.assert_array_equal(mine[0][key], theirs[0][key])
        assert mine[1] == theirs[1] and mine[2] == theirs[2]


def test_algorithms_are_taken_as_they_are() -> None:
    env = BatchedSchedulingEnv(config("meta"), 1, seed=6)
    env.reset()
    from marl_sched.schedulers import get_scheduler
    from marl_sched.sim.simulation import look

    differ = 0
    for step in range(60):
        view = look(env.world, 0)
        asked = {}
        for name in ALGORITHMS:
            asked[name] = get_scheduler(name).allocate(view).gpus.tolist()
        differ += asked["srtf"] != asked["fcfs_backfill"]
        name = ALGORITHMS[step % 3]
        # In `full` the algorithm is a sub-step: the proposal can be looked at.
        full = BatchedSchedulingEnv(config("full"), 1, seed=6)
        full.set_state(env.get_state())
        full.step(np.array([0])) if full.game.mask[0, 1] == 0 else None
        full.game.mask[0, 1:UP] = 1
        full.step(np.array([1 + step % 3]))
        assert proposed(full.world, full.game).tolist() == asked[name]
        env.step(np.array([1 + step % 3]))
    assert differ > 5


def test_starved_jobs_are_served_by_the_base_schedule_in_the_end() -> None:
    """A scheduler that takes everything away for ever does not keep an episode from ending."""
    # Rigid jobs: one level down is nothing at all.
    settings = config("edit", max_edits=24, job_slots=24)
    rigid = settings.workload.model_copy(update={"elastic_fraction": 0.0})
    env = BatchedSchedulingEnv(settings.model_copy(update={"workload": rigid}), 1, seed=0)
    env.reset()
    idle_rounds = 0
    done = np.zeros(1, bool)
    while not done[0]:
        down = np.flatnonzero(env.game.mask[0, UP + 24 :])
        _, _, _, done = env.step(np.array([UP + 24 + int(down[0]) if down.size else 0]))
        idle_rounds = max(idle_rounds, int(env.world.env_k[0, c.IDLE_ROUNDS]))
        if 3 < env.world.env_k[0, c.IDLE_ROUNDS] < c.MAX_IDLE_ROUNDS - 1:
            # Not ten thousand times over.
            env.world.env_k[0, c.IDLE_ROUNDS] = c.MAX_IDLE_ROUNDS - 1
    (summary,) = env.pop_episodes()
    assert idle_rounds > 3
    assert summary["num_jobs"] == 24
    assert summary["return"] == pytest.approx(-summary["jct_vs_base_percent"])
