"""What the game counts as free is what is free: shares, nodes that are gone, GPU types, quotas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from marl_sched.config import Config
from marl_sched.envs.batched import BatchedSchedulingEnv
from marl_sched.sim import columns as c
from marl_sched.sim.apply import apply
from tests.envs.games import UP, masked_action, traced


def shares_trace(folder: Path, extra: str = "") -> Path:
    """120 jobs with 100 to 250 thousandths of a GPU, many at a time."""
    rng = np.random.default_rng(1)
    rows = ["arrival_s,duration_s,num_gpus,gpu_milli"]
    arrival_s = 0.0
    for _ in range(120):
        rows.append(
            f"{arrival_s},{rng.lognormal(7.0, 0.5)},1,{int(rng.choice([100, 150, 200, 250]))}"
        )
        arrival_s += float(rng.exponential(60.0))
    path = folder / "shares.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def whole_trace(folder: Path) -> Path:
    """120 elastic jobs of two tenants."""
    rng = np.random.default_rng(2)
    rows = ["arrival_s,duration_s,num_gpus,elastic,tenant"]
    arrival_s = 0.0
    for _ in range(120):
        size, tenant = rng.choice([1, 1, 2, 4]), rng.choice(["a", "b"])
        rows.append(f"{arrival_s},{rng.lognormal(7.0, 1.0)},{size},true,{tenant}")
        arrival_s += float(rng.exponential(200.0))
    path = folder / "whole.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def game_on(trace: Path, cluster: str, sim: dict[str, Any], **env: Any) -> BatchedSchedulingEnv:
    settings = traced(trace, cluster, jobs_per_episode=38, max_edits=4, **env)
    data = settings.model_dump()
    data["sim"] |= sim
    return BatchedSchedulingEnv(Config.model_validate(data), 1, seed=0)


def used_gpus(env: BatchedSchedulingEnv) -> np.ndarray:
    """(A,) GPUs of the proposal, shares as fractions."""
    world, active = env.world, int(env.world.env_k[0, c.NUM_ACTIVE])
    sizes = world.sizes[world.slot_k[0, c.PROFILE, :active], env.game.proposal[0, :active]]
    return np.asarray(sizes * world.slot_demand[0, :active, 0])


def open_gpus(env: BatchedSchedulingEnv) -> float:
    """GPUs of the nodes that take jobs, and those held on nodes that do not any more."""
    world = env.world
    is_open = world.node_k[0, c.NODE_STATE] == c.OPEN
    held = (world.capacity - world.free[0])[world.node_k[0, c.NODE_STATE] == c.CLOSED, 0]
    return float(world.capacity[is_open, 0].sum() + held.sum())


def check_count(env: BatchedSchedulingEnv) -> None:
    free = env.game.free[0]
    assert used_gpus(env).sum() + free == pytest.approx(open_gpus(env), abs=1e-9)
    assert free >= -1e-9
    assert env.game.cluster[0, 1] == pytest.approx(free / env.world.total[0], abs=1e-6)


@pytest.mark.parametrize("base", ["fcfs", "elastic_index"])
def test_shares_count_as_the_fractions_that_they_are(tmp_path: Path, base: str) -> None:
    """4 GPUs hold some 20 jobs of a tenth to a quarter: 0.2 is left, and not -16.

    One job less is one job less: the others have their shares as before.
    """
    env = game_on(shares_trace(tmp_path), "1x4", {}, actions="edit", base=base)
    env.reset()
    crowded = edited = 0
    for _ in range(300):
        check_count(env)
        before = env.game.proposal[0].copy()
        crowded = max(crowded, int((before[: env.world.env_k[0, c.NUM_ACTIVE]] > 0).sum()))
        down = np.flatnonzero(env.game.mask[0, UP + 4 :])
        if down.size and env.game.edits[0] == 0:
            row = int(env.game.slot[0, down[0]])
            active = int(env.world.env_k[0, c.NUM_ACTIVE])
            env.step(np.array([UP + 4 + int(down[0])]))
            others = np.arange(active) != row
            assert (env.game.proposal[0, :active][others] >= before[:active][others]).all()
            assert env.game.proposal[0, row] == before[row] - 1
            check_count(env)
            edited += 1
        env.step(np.array([0]))
    assert crowded >= 15 and edited > 50


@pytest.mark.parametrize("actions", ["edit", "full"])
def test_nodes_that_are_down_or_going_are_not_free(tmp_path: Path, actions: str) -> None:
    """In every round and after every edit, used and free GPUs are those of the open nodes."""
    events = tmp_path / "events.csv"
    events.write_text(
        "time_s,node,event,notice_s\n"
        + "".join(
            f"{at},{node},reclaim,600\n{at + 900},{node},up,\n"
            for at in range(500, 20000, 3000)
            for node in (at // 3000 % 4,)
        )
    )
    sim = {"node_mtbf_h": 1.0, "node_mttr_h": 0.5, "node_events": str(events)}
    env = game_on(whole_trace(tmp_path), "4x3", sim, actions=actions)
    rng = np.random.default_rng(0)
    env.reset()
    missing = 0
    for _ in range(1200):
        check_count(env)
        missing += open_gpus(env) < env.world.total[0]
        env.step(np.array([masked_action(rng, env.game.mask[0])]))
    assert missing > 200


CASES = {
    "types": ("2x4:V100+1x4:T4", {}),
    "quotas": ("3x4", {"tenant_quota": {"a": 5.0}}),
    "both": ("1x4:V100+2x4:T4", {"tenant_quota": {"b": 6.0}}),
}


@pytest.mark.parametrize("case", CASES)
def test_an_edit_hands_out_what_can_be_placed(tmp_path: Path, case: str) -> None:
    """What edits propose is carried out as it is: GPUs of a type are enough, for gangs may span.

    But for a few in a hundred: in which order gangs grow and start is settled later, and one of
    them may go to a type that was meant for another. (Of all types alike, a third is not.)
    """
    cluster, sim = CASES[case]
    env = game_on(whole_trace(tmp_path), cluster, sim, actions="edit")
    rng = np.random.default_rng(0)
    env.reset()
    world, tenants = env.world, env.workload.tenants
    quota = np.array([sim.get("tenant_quota", {}).get(name, np.inf) for name in tenants])
    edited = carried_out = 0
    twin = game_on(whole_trace(tmp_path), cluster, sim, actions="edit")
    for _ in range(800):
        active = int(world.env_k[0, c.NUM_ACTIVE])
        held = np.zeros(len(tenants))
        np.add.at(held, world.slot_k[0, c.TENANT, :active], used_gpus(env))
        assert (held <= quota + 1e-9).all()
        check_count(env)
        if env.game.edits[0] > 0:
            twin.set_state(env.get_state())
            apply(twin.world, 0, env.game.proposal[0, :active].copy())
            levels = twin.world.slot_k[0, c.LEVEL, :active]
            edited += 1
            carried_out += int((levels == env.game.proposal[0, :active]).all())
        env.step(np.array([masked_action(rng, env.game.mask[0], edits=0.6)]))
    assert edited > 100
    assert carried_out >= 0.92 * edited, (carried_out, edited)
