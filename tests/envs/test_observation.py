"""What the scheduler sees, worked out again in plain numpy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from marl_sched.config import Config
from marl_sched.envs.batched import BatchedSchedulingEnv, action_space, observation_space
from marl_sched.envs.episodes import MIN_EPISODE_JOBS, episode_jobs, load_part
from marl_sched.envs.observe import take_stock, write_observation
from marl_sched.envs.state import CLUSTER_FEATURES, GLOBAL_FEATURES, JOB_FEATURES
from marl_sched.errors import UserError
from marl_sched.schedulers import get_scheduler
from marl_sched.sim import columns as c
from marl_sched.sim.simulation import look
from marl_sched.types import ClusterView
from tests.envs.games import UP, config, masked_action, proposed, traced

GPUS = 12


def played(env: BatchedSchedulingEnv, steps: int) -> Iterator[tuple[dict, ClusterView]]:
    """Observations of environment 0 in a random legal play, with the view at that moment."""
    obs, rng = env.reset(), np.random.default_rng(0)
    for _ in range(steps):
        yield {key: value[0] for key, value in obs.items()}, look(env.world, 0)
        obs, _, _, _ = env.step(np.array([masked_action(rng, obs["mask"][0])]))


def log_gpus(gpus: np.ndarray) -> np.ndarray:
    return np.log2(1 + gpus) / np.log2(1 + GPUS)


def test_jobs() -> None:
    env = BatchedSchedulingEnv(config("full"), 1, seed=0)
    assert JOB_FEATURES[0] == "occupied"
    checked = 0
    for obs, view in played(env, 250):
        rows = env.game.slot[0]
        occupied = rows >= 0
        x = dict(zip(JOB_FEATURES, obs["jobs"].T, strict=True))
        np.testing.assert_array_equal(x["occupied"], occupied)
        assert (obs["jobs"][~occupied] == 0).all()
        i = rows[occupied]
        assert len(set(i.tolist())) == i.size == min(8, view.job.size)
        mine = {name: value[occupied] for name, value in x.items()}
        profile = view.profile[i]
        left_s = np.maximum(view.est_remaining_s, 1.0)
        expected = {
            "request": log_gpus(view.sizes[profile, view.request_level[i]]),
            "held": log_gpus(view.sizes[profile, view.level[i]]),
            "most": log_gpus(view.sizes[profile, view.limit_level[i]]),
            "proposed": log_gpus(proposed(env.world, env.game)[i]),
            "waiting": view.level[i] == 0,
            "log_age": np.log1p((view.now_s - view.arrival_s[i]) / left_s.mean()) / 4,
            "log_friction": np.log1p(view.restart_s[i] / left_s[i]),
            "progress": 1 - np.minimum(left_s[i] / np.maximum(view.est_total_s[i], 1.0), 1.0),
            "can_go_up": obs["mask"][UP : UP + 8][occupied],
            "change": np.sign(env.game.proposal[0, i] - view.level[i]),
        }
        ran_s = np.nan_to_num(view.now_s - view.run_since_s[i])
        expected["log_held_for"] = np.log1p(ran_s / env.config.sim.round_s) / 4
        work = left_s * view.sizes[view.profile, 1] / view.rates[view.profile, 1]
        expected["log_work"] = np.log(work[i] / work.mean()) / 4
        expected["rank"] = [(work < work[j]).mean() for j in i]
        for name, value in expected.items():
            np.testing.assert_allclose(mine[name], value, rtol=2e-5, atol=1e-6, err_msg=name)
        checked += i.size
    assert checked > 500


def test_gains_and_losses() -> None:
    env = BatchedSchedulingEnv(config("full"), 1, seed=1)
    up_at, down_at = JOB_FEATURES.index("log_gain_up"), JOB_FEATURES.index("log_loss_down")
    for obs, view in played(env, 100):
        for k, i in enumerate(env.game.slot[0].tolist()):
            if i < 0:
                continue
            sizes, rates = view.sizes[view.profile[i]], view.rates[view.profile[i]]
            level = int(env.game.proposal[0, i])
            gain = loss = -2.0
            # Single-GPU speeds: the smallest size runs at its own number of GPUs.
            speed = rates * sizes[1] / rates[1]
            if level < view.num_levels[view.profile[i]]:
                slope = (speed[level + 1] - speed[level]) / (sizes[level + 1] - sizes[level])
                gain = max(np.log(max(slope, 1e-9)) / 4, -2.0)
            if level > 0:
                slope = (speed[level] - speed[level - 1]) / (sizes[level] - sizes[level - 1])
                loss = max(np.log(max(slope, 1e-9)) / 4, -2.0)
            assert obs["jobs"][k, up_at] == pytest.approx(gain, abs=1e-3)
            assert obs["jobs"][k, down_at] == pytest.approx(loss, abs=1e-3)


def test_globals_and_cluster() -> None:
    env = BatchedSchedulingEnv(config("full"), 1, seed=2)
    overflows = 0
    for obs, view in played(env, 250):
        n = view.job.size
        x = dict(zip(GLOBAL_FEATURES, obs["globals"].tolist(), strict=True))
        asked = view.sizes[view.profile, view.request_level]
        most = view.sizes[view.profile, view.limit_level]
        assert x["log_jobs"] == pytest.approx(np.log1p(n) / 8, rel=1e-5)
        assert x["waiting"] == pytest.approx((view.level == 0).mean(), rel=1e-5)
        assert x["log_asked"] == pytest.approx(np.log1p(asked.sum() / GPUS), rel=1e-5)
        assert x["log_most"] == pytest.approx(np.log1p(most.sum() / GPUS), rel=1e-5)
        assert x["overflow"] == pytest.approx(max(n - 8, 0) / n, rel=1e-5)
        overflows += n > 8
        shown = env.game.slot[0][env.game.slot[0] >= 0]
        tail = np.delete(np.arange(n), shown)
        assert x["tail_asked"] == pytest.approx(np.log1p(asked[tail].sum() / GPUS), rel=1e-5)
        assert x["edits_left"] == pytest.approx(1 - env.game.edits[0] / 3, abs=1e-6)
        changes = (env.game.proposal[0, :n] != view.level).mean()
        assert x["changes"] == pytest.approx(changes, rel=1e-5)
        left_s = np.maximum(view.est_remaining_s, 1.0)
        round_s = env.config.sim.round_s
        assert x["log_round"] == pytest.approx(np.log1p(left_s.mean() / round_s) / 8, rel=1e-5)
        work = np.log(left_s * view.sizes[view.profile, 1] / view.rates[view.profile, 1])
        assert x["spread"] == pytest.approx(work.std() / 4, abs=1e-4)
        y = dict(zip(CLUSTER_FEATURES, obs["cluster"].tolist(), strict=True))
        free = env.world.free[0, :, 0]
        assert y["free_now"] == pytest.approx(free.sum() / GPUS)
        given = proposed(env.world, env.game).sum()
        assert y["free_proposed"] == pytest.approx(1 - given / GPUS, abs=1e-6)
        assert y["emptiest_node"] == pytest.approx(free.max() / 4)
        assert y["idle_nodes"] == pytest.approx((free == 4).mean())
        assert y["log_nodes"] == pytest.approx(np.log2(4) / 12)
        assert y["log_gpus"] == pytest.approx(np.log2(13) / 12)
    assert overflows > 20


@pytest.mark.parametrize("slots", [4, 24])
def test_a_sub_step_leaves_the_observation_as_if_written_anew(slots: int) -> None:
    env = BatchedSchedulingEnv(config("full", job_slots=slots, max_edits=5), 1, seed=5)
    obs, rng, edits = env.reset(), np.random.default_rng(5), 0
    for _ in range(600):
        obs, _, dt_s, _ = env.step(np.array([masked_action(rng, obs["mask"][0], edits=0.9)]))
        edits += dt_s[0] == 0.0
        take_stock(env.world, env.game, 0)
        env.game.jobs[0] = np.where(env.game.slot[0, :, None] < 0, 0.0, np.nan)
        for array in (env.game.cluster, env.game.globals):
            array[:] = np.nan
        write_observation(env.world, env.game, 0)
        for name, value in env.observation().items():
            np.testing.assert_array_equal(value, obs[name], err_msg=name)
    assert edits > 200


def test_slots_show_those_closest_to_the_price() -> None:
    env = BatchedSchedulingEnv(config("edit", job_slots=4), 1, seed=0)
    checked = 0
    for _ in played(env, 200):
        game, n = env.game, int(env.world.env_k[0, c.NUM_ACTIVE])
        shown = game.slot[0][game.slot[0] >= 0]
        assert (np.diff(game.work[0, shown]) >= 0).all()
        assert game.slot_of[0, shown].tolist() == list(range(shown.size))
        assert (game.slot_of[0, :n] >= 0).sum() == shown.size == min(n, 4)
        if n > 4 and game.fresh[0]:
            up, down = game.bid_up[0, :n], game.bid_down[0, :n]
            assert game.price[0] == pytest.approx((up.max() + down.min()) / 2)
            distance = np.minimum(abs(up - game.price[0]), abs(down - game.price[0]))
            others = np.delete(distance, shown)
            assert distance[shown].max() <= others.min()
            checked += 1
    assert checked > 20


def test_the_proposal_starts_as_the_base_schedule() -> None:
    for base in ("elastic_index", "las"):
        env = BatchedSchedulingEnv(config("meta", base=base), 1, seed=3)
        rule = get_scheduler(base)
        for _, view in played(env, 100):
            asked = rule.allocate(view).gpus
            np.testing.assert_array_equal(proposed(env.world, env.game), asked)


def test_nothing_is_nan_or_out_of_the_space() -> None:
    settings = config("full", cluster="2x4:T4+1x8:A100")
    env = BatchedSchedulingEnv(settings, 1, seed=4)
    space = observation_space(settings)
    assert action_space(settings).n == UP + 2 * 8 == len(space["mask"].sample())
    for obs, _ in played(env, 300):
        assert space.contains(obs)
        for name, value in obs.items():
            assert np.isfinite(value).all(), name
            assert np.abs(value).max() < 20, name


def test_parts_are_chronological_and_disjoint() -> None:
    settings = config()
    train, validation, test = (load_part(settings, p) for p in ("train", "validation", "test"))
    ids = [set(part.job_id) for part in (train, validation, test)]
    assert not ids[0] & ids[1] and not ids[1] & ids[2] and not ids[0] & ids[2]
    assert [len(part) for part in (train, validation, test)] == [180, 60, 60]
    assert train.arrival_s[-1] <= validation.arrival_s[0]
    assert validation.arrival_s[-1] <= test.arrival_s[0]


def settings_for(trace: Path, jobs: int, gap_s: float) -> Config:
    rows = [f"{j * gap_s},{100 + j},1" for j in range(jobs)]
    trace.write_text("\n".join(["arrival_s,duration_s,num_gpus", *rows]) + "\n")
    return traced(trace, "1x2", train_load=[0.5, 1.2])


def test_jobs_that_arrive_at_once_can_be_played(tmp_path: Path) -> None:
    """Their offered load is infinite: there is nothing to stretch."""
    env = BatchedSchedulingEnv(settings_for(tmp_path / "burst.csv", 30, 0.0), 1, seed=0)
    env.reset()
    done = np.zeros(1, bool)
    while not done[0]:
        _, _, _, done = env.step(np.array([0]))
    assert env.pop_episodes()[0]["num_jobs"] == 10


def test_training_sees_the_configured_range_of_loads() -> None:
    env = BatchedSchedulingEnv(config(train_load=[0.4, 1.6]), 1, seed=0)
    own = env.workload.offered_load(GPUS)
    loads = np.array([own / env.draw_episode().stretch for _ in range(500)])
    assert loads.min() >= min(0.4, own) - 1e-9 and loads.max() <= max(1.6, own) + 1e-9
    assert loads.min() < 0.5 and loads.max() > 1.5
    plain = BatchedSchedulingEnv(config(train_load=None), 1, seed=0)
    assert plain.draw_episode().stretch == 1.0


def test_a_game_without_decisions_is_refused(tmp_path: Path) -> None:
    """Jobs that never meet leave nothing to decide; one line says so instead of a loop."""
    settings = settings_for(tmp_path / "lonely.csv", 30, 1e6)
    alone = settings.env.model_copy(update={"train_load": None})
    env = BatchedSchedulingEnv(settings.model_copy(update={"env": alone}), 1, seed=0)
    with pytest.raises(UserError, match="nothing to decide"):
        env.reset()


def test_a_part_without_jobs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no job falls into the"):
        load_part(settings_for(tmp_path / "short.csv", 1, 10.0), "validation")


def test_episodes_fill_the_cluster() -> None:
    part = load_part(config(), "train")
    assert episode_jobs(config(), part) == 24
    assert episode_jobs(config(jobs_per_episode=10_000), part) == len(part)
    automatic = episode_jobs(config(jobs_per_episode=None), part)
    assert automatic == min(len(part), MIN_EPISODE_JOBS)
