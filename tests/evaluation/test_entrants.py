"""Players: whoever plays, the same episodes give the same figures by every way to play them."""

from __future__ import annotations

import re
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from marl_sched.config import Config, validate_config
from marl_sched.envs.episodes import Episode, load_part
from marl_sched.errors import UserError
from marl_sched.evaluation import entrants
from marl_sched.evaluation import simulate as simulate_module
from marl_sched.evaluation.compare import compare, part_episodes
from marl_sched.evaluation.entrants import (
    Player,
    load_player,
    planner_player,
    policy_player,
    rule_player,
)
from marl_sched.evaluation.simulate import simulate
from marl_sched.evaluation.suite_run import CellRun, play_cell
from marl_sched.schedulers import REGISTRY, get_scheduler
from marl_sched.schedulers.learned.scorer_file import PRETRAINED
from marl_sched.training.run import check
from marl_sched.types import Allocation, Cluster, ClusterView, NodeView
from tests.envs.games import config
from tests.export.trained import policy_of

PLANNERS = sorted(name for name, one in REGISTRY.items() if not one.compiled)
COMPILED = ("fcfs", "fcfs_backfill", "srtf", "elastic_las", "elastic_index", "afs", "themis")


def judged(cluster: str = "3x4", part: str = "test", **sections: dict[str, Any]) -> Config:
    """A small game; `sections` override single settings."""
    data = config("meta", cluster).model_dump(mode="json")
    data["evaluation"] |= {"episodes": 2, "jobs_per_episode": 12, "bound_episodes": 0}
    for name, changed in sections.items():
        data[name] |= changed
    return validate_config(data)


def whole_part(settings: Config) -> list[Episode]:
    """All jobs of the test part at once: `simulate` then draws the same estimates and failures."""
    return [Episode(0, len(load_part(settings, "test")))]


def simulated(settings: Config, name: str) -> dict[str, float]:
    jobs, cluster = load_part(settings, "test"), Cluster.parse(settings.cluster)
    noise = settings.workload.estimate_noise
    scheduler = get_scheduler(name)
    return simulate(jobs, cluster, scheduler, settings.sim, noise, settings.seed).summary()


class First:
    """A user's own planner: whole requests in the order of the view, as long as there is room.

    It remembers how often it was asked, which must not carry over to the next episode.
    """

    def __init__(self) -> None:
        self.asked = 0

    def allocate(self, view: ClusterView, nodes: NodeView) -> Allocation:
        self.asked += 1
        left, gpus = int(nodes.capacity[nodes.up, 0].sum()), np.zeros(view.job.size, np.int64)
        backwards = self.asked > 40
        for row in reversed(range(view.job.size)) if backwards else range(view.job.size):
            wanted = int(view.sizes[view.profile[row], view.request_level[row]])
            if wanted <= left:
                gpus[row], left = wanted, left - wanted
        return Allocation(gpus=gpus)


# The same figures whoever asks


@pytest.mark.parametrize("name", PLANNERS)
def test_a_planner_is_judged_as_it_is_simulated(name: str) -> None:
    settings = judged(workload={"synthetic": {"num_jobs": 100, "median_duration_s": 900.0}})
    player = load_player(name)
    assert player.classic and player.agents == "honest"
    assert player.play(settings, "test", whole_part(settings)) == [simulated(settings, name)]


@pytest.mark.parametrize(
    "rules",
    [
        {"node_mtbf_h": 3.0, "node_mttr_h": 0.2},
        {"job_mtbf_h": 2.0, "max_retries": 2},
        {"cross_rack_rate": 0.3},
        {"node_events": "events.csv"},
        {"placement": "spread", "restart_scale": 3.0, "tenant_quota": {}},
    ],
    ids=lambda rules: next(iter(rules)),
)
@pytest.mark.parametrize("name", ["elastic_index", "sia"])
def test_all_rules_of_the_cluster_hold_where_schedulers_are_judged(
    name: str, rules: dict[str, Any], tmp_path: Path
) -> None:
    """Failures drawn from the seed, given node events and slow racks: as in `simulate`."""
    if "node_events" in rules:
        path = tmp_path / "events.csv"
        path.write_text("time_s,node,event,notice_s\n900,0,down,\n5000,0,up,\n")
        rules = {"node_events": str(path)}
    cluster = tmp_path / "racks.yaml"
    cluster.write_text(
        "nodes:\n  - {count: 2, gpus: 4, rack: a}\n  - {count: 2, gpus: 4, rack: b}\n"
    )
    settings = judged(
        str(cluster),
        sim=rules,
        workload={"synthetic": {"num_jobs": 60, "median_duration_s": 900.0}},
    )
    assert load_player(name).play(settings, "test", whole_part(settings)) == [
        simulated(settings, name)
    ]


@pytest.mark.parametrize("name", COMPILED)
def test_a_compiled_rule_as_a_planner_plays_the_same(name: str) -> None:
    settings, rule = judged(), get_scheduler(name)
    episodes = part_episodes(settings, "test", 3)
    assert len(episodes) == 3
    compiled = rule_player(rule).play(settings, "test", episodes)
    assert planner_player(name, rule.new_planner).play(settings, "test", episodes) == compiled


def test_tables_that_grow_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The world of a planner is replaced by a larger one within an episode, and goes on."""
    settings, rule = judged(workload={"load": 3.0}), get_scheduler("elastic_index")
    episodes = part_episodes(settings, "test", 2)
    compiled = rule_player(rule).play(settings, "test", episodes)
    made = entrants.make_world

    def small(config: Config, part: Any, num_envs: int, window: int) -> Any:
        world = made(config, part, num_envs, window)
        cut = simulate_module.world_of(
            part, Cluster.parse(config.cluster), config.sim, config.workload.estimate_noise,
            config.seed, num_envs=num_envs, window=window, slots=2,
        )  # fmt: skip
        assert cut.target.shape[1] < world.target.shape[1]
        return cut

    monkeypatch.setattr(entrants, "make_world", small)
    assert planner_player("x", rule.new_planner).play(settings, "test", episodes) == compiled


# A planner of one's own


def test_any_object_with_allocate_is_a_player() -> None:
    settings = judged()
    episodes = part_episodes(settings, "test", 2)
    one = planner_player("mine", First())
    assert not one.classic and one.identity is None
    figures = one.play(settings, "test", episodes)
    assert [f["num_finished"] for f in figures] == [12, 12]
    # As an object, a class or a function: no episode remembers another one.
    assert figures == planner_player("mine", First).play(settings, "test", episodes)
    assert figures == planner_player("mine", lambda: First()).play(settings, "test", episodes)
    assert figures == one.play(settings, "test", episodes)
    assert one.play(settings, "test", episodes[1:]) == figures[1:]


def test_what_is_no_planner_is_refused() -> None:
    settings = judged()
    episodes = part_episodes(settings, "test", 1)

    class Locked(First):
        def __init__(self) -> None:
            super().__init__()
            self.lock = threading.Lock()

    for wrong in (5, dict, "sia"):
        with pytest.raises(UserError, match=r"'mine'.* allocate\(view, nodes\)"):
            planner_player("mine", wrong)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="'mine'.*copied.*give its class"):
        planner_player("mine", Locked()).play(settings, "test", episodes)
    made = planner_player("mine", Locked).play(settings, "test", episodes)
    assert made == planner_player("mine", First).play(settings, "test", episodes)
    asked = planner_player("mine", get_scheduler("las")).play(settings, "test", episodes)
    assert asked == load_player("las").play(settings, "test", episodes)


def test_its_results_are_kept_only_where_it_says_what_it_is(tmp_path: Path) -> None:
    settings = judged()
    plays: list[str] = []

    def counted(player: Player) -> Player:
        def play(*arguments: Any) -> list[dict[str, float]]:
            plays.append(player.name)
            return player.play(*arguments)

        return replace(player, play=play)

    cell = CellRun("small", "test", settings)
    named = counted(planner_player("named", First, identity="First, as of today"))
    players = [counted(planner_player("mine", First)), named, counted(load_player("srtf"))]
    first = play_cell(cell, players, tmp_path)
    assert plays == ["mine", "named", "srtf"]
    assert play_cell(cell, players, tmp_path) == first
    assert plays == ["mine", "named", "srtf", "mine"]
    assert first["best_classic"] == "srtf"
    mine = first["vs_best_classic"]["mine"]["avg_jct_percent"]
    assert mine == first["vs_best_classic"]["named"]["avg_jct_percent"]


def test_two_players_of_one_name_are_refused() -> None:
    with pytest.raises(UserError, match="name of its own"):
        play_cell(CellRun("", "test", judged()), [load_player("srtf"), load_player("srtf")])


def test_progress_of_a_planner_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulate_module, "TELL_EVERY_S", 0.0)
    told: list[str] = []
    settings = judged()
    report = play_cell(CellRun("", "test", settings), [planner_player("mine", First)], None,
                       told.append)  # fmt: skip
    assert report["episodes"] == 2
    # The last decision is while the last jobs run.
    assert "mine" in told and re.fullmatch(r"mine: episode 2 of 2, 1[01] of 12 jobs", told[-1])
    jobs = load_part(settings, "test")
    told.clear()
    simulate(jobs, Cluster.parse("3x4"), get_scheduler("gandiva_fair"), tell=told.append)
    assert re.fullmatch(rf"\d\d of {len(jobs)} jobs", told[-1])


def test_progress_of_a_compiled_scheduler_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    # It runs in pieces: each time it comes back, Python hears of it, and would of Ctrl-C.
    monkeypatch.setattr(simulate_module, "TELL_EVERY_S", 0.0)
    monkeypatch.setattr(simulate_module, "FIRST_EPOCHS", 1)
    jobs = load_part(judged(), "test")
    told: list[str] = []
    whole = simulate(jobs, Cluster.parse("3x4"), get_scheduler("elastic_index"), tell=told.append)
    ended = [int(text.split(" ")[0]) for text in told]
    assert ended == sorted(ended) and len(set(ended)) > len(jobs) // 2
    assert told[-1].endswith(f" of {len(jobs)} jobs") and ended[-1] < len(jobs)
    monkeypatch.undo()
    at_once = simulate(jobs, Cluster.parse("3x4"), get_scheduler("elastic_index"))
    np.testing.assert_array_equal(at_once.finish_s, whole.finish_s)


# What cannot be played


class Idle:
    def allocate(self, view: ClusterView, nodes: NodeView) -> Allocation:
        return Allocation(gpus=np.zeros(view.job.size, np.int64))


def test_what_cannot_be_played_is_said() -> None:
    settings = judged()
    episodes = part_episodes(settings, "test", 1)
    with pytest.raises(UserError, match=r"'idle'.* idle cluster"):
        planner_player("idle", Idle).play(settings, "test", episodes)
    for name in ("none", f"{PRETRAINED}:p=1"):
        with pytest.raises(UserError, match=re.escape(name)):
            load_player(name)
    packed = judged(sim={"repack": True})
    for player in (load_player("elastic_index"), load_player("sia"), planner_player("mine", First),
                   policy_player(policy_of("ppo", packed), "policy")):  # fmt: skip
        with pytest.raises(UserError, match="repack"):
            player.play(packed, "test", episodes)
    load_player("srtf").play(packed, "test", episodes)
    with pytest.raises(UserError, match="repack"):
        check(packed)  # nobody could judge what would be trained


def test_shares_of_a_gpu_are_refused_to_planners(tmp_path: Path) -> None:
    trace = tmp_path / "shares.csv"
    rows = [f"{60 * i},600,1,{500 if i % 2 else 1000}" for i in range(30)]
    trace.write_text("\n".join(["arrival_s,duration_s,num_gpus,gpu_milli", *rows]) + "\n")
    settings = judged("1x4", workload={"trace": str(trace)})
    episodes = part_episodes(settings, "whole", 1)
    for player in (load_player("sia"), planner_player("mine", First)):
        with pytest.raises(UserError, match=f"{player.name}.*gpu_milli"):
            player.play(settings, "whole", episodes)
    load_player("srtf").play(settings, "whole", episodes)


# Identity: what results are kept by


def test_identity_changes_with_what_is_played(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("las", "las:quantum_gpu_s=60", "srtf", "elastic_las", "sia", "sia:idle_penalty=2",
             "elastic_index", "elastic_index:tuned", "elastic_index:trust=1",
             PRETRAINED)  # fmt: skip
    players = [load_player(name) for name in names]
    assert len({player.identity for player in players}) == len(names)
    assert load_player("las:quantum_gpu_s=3600").identity == load_player("las").identity
    assert [player.name for player in players if not player.classic] == [PRETRAINED]
    assert players[-1].weights_sha256 is not None and players[-1].trained_on is None
    # A policy is what it stands on, too: parameters found anew make another one of it.
    settings = judged(env={"base": "elastic_index:tuned"})
    policy = policy_of("ppo", settings)
    before = policy_player(policy, "p", settings).identity
    assert before == policy_player(policy, "p", settings).identity
    monkeypatch.setattr(
        "marl_sched.schedulers.registry.tuned_params",
        lambda name: {"p": 0.1, "h": 0.1, "g": 1.0, "b": 1.0},
    )
    assert policy_player(policy, "p", settings).identity != before
    other = judged(env={"base": "elastic_index:tuned", "max_edits": 1})
    assert policy_player(policy, "p", other).identity != before


def test_a_policy_plays_its_own_game_on_the_jobs_it_is_judged_on() -> None:
    """It commits throughout: the base of its own game plays, under the cluster that is given."""
    trained = judged(env={"base": "elastic_srtf"})
    given = judged("2x4", env={"base": "las"})
    player = policy_player(policy_of("ppo", trained, is_base=True), "p", trained)
    episodes = part_episodes(given, "test", 2)
    committed = player.play(given, "test", episodes)
    assert committed == load_player("elastic_srtf").play(given, "test", episodes)
    # Without a game of its own it plays the one that it is given.
    anyones = policy_player(policy_of("ppo", given, is_base=True), "p")
    assert anyones.play(given, "test", episodes) == load_player("las").play(given, "test", episodes)


# The better of both indices


def test_everything_is_compared_with_the_better_index() -> None:
    def with_jcts(**jcts: float) -> dict[str, list[dict[str, float]]]:
        return {name: [{"avg_jct_s": jct}] * 3 for name, jct in jcts.items()}

    tuned, trusting = "elastic_index:tuned", "elastic_index:trust=1"
    runs = with_jcts(mine=98.0, afs=90.0) | with_jcts(**{tuned: 100.0, trusting: 96.0})
    report = compare(runs, ("afs", tuned, trusting))
    assert report["best_classic"] == "afs" and report["best_index"] == trusting
    mine = report["vs_best_index"]["mine"]["avg_jct_percent"]["mean"]
    assert mine == pytest.approx(100 * (98 / 96 - 1))
    del runs[trusting]
    assert compare(runs, (tuned,))["best_index"] == tuned
    del runs[tuned]
    report = compare(runs, ("afs",))
    assert report["best_index"] is None and report["vs_best_index"] == {}


def test_the_example_of_the_readme_runs() -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (example,) = (block for block in re.findall(r"```python\n(.*?)```", text, re.S)
                  if "load_player" in block)  # fmt: skip
    scope: dict[str, Any] = {"__name__": "example"}
    exec(example, scope)
    assert set(scope["report"]["schedulers"]) == {"mine", "elastic_index:tuned", "gandiva_fair"}
