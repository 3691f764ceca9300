"""Who plays episodes: compiled rules, planners in Python and trained policies, each a `Player`.

    player = load_player("sia")
    metrics = player.play(config, "test", part_episodes(config, "test", 20))

All of them meet the same jobs, with the same estimates, failures and rules, and are judged by the
same metrics. Whoever needs a scheduler to be played asks `load_player` for it.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from marl_sched.config import Config, validate_config
from marl_sched.envs.episodes import Episode, load_part, make_world
from marl_sched.errors import UserError
from marl_sched.evaluation.metrics import JobResults, job_results
from marl_sched.evaluation.simulate import (
    Tell,
    check_rules,
    check_whole_gpus,
    drive,
    play_episode,
    refuse_repack,
    silent,
)
from marl_sched.schedulers import REGISTRY, Planner, Scheduler, get_scheduler, learned_scorer
from marl_sched.schedulers.learned.guard import tally_of
from marl_sched.schedulers.learned.scorer_file import (
    PRETRAINED,
    is_scorer,
    load_scorer,
    weights_digest,
)
from marl_sched.sim.simulation import Simulation

if TYPE_CHECKING:
    from marl_sched.models.policy import LearnedPolicy

Metrics = list[dict[str, float]]
"""One dictionary an episode, see `JobResults.summary`."""


class Play(Protocol):
    """Plays episodes to their end."""

    def __call__(
        self, config: Config, part: str, episodes: list[Episode], tell: Tell = silent, /
    ) -> Metrics:
        """The metrics of each of `episodes`.

        Args:
            config: cluster, workload and rules.
            part: of the workload: `train`, `validation`, `test` or `whole`.
            episodes: jobs of that part.
            tell: how far it is, where that takes long.
        """


@dataclass(frozen=True)
class Player:
    """A scheduler that can be judged."""

    name: str
    identity: str | None
    """Changes whenever what it plays may: rule and parameters, digests of weights, the game that
    it was trained on. Results are kept by it; None: they are not kept."""
    play: Play
    classic: bool = False
    """Whether trained schedulers are compared with it as one that nobody had to train."""
    agents: str = "honest"
    """How agents declare their demand under it."""
    trained_on: dict[str, Any] | None = None
    """Settings of its training, to be judged under where nothing else is said."""
    weights_sha256: str | None = None
    """Of its weights' file, where it was trained."""


def load_player(
    name: str | Path, resolve: Callable[[dict[str, Any]], Config] = validate_config
) -> Player:
    """The player that `--scheduler` calls `name`: a scheduler of the registry, compiled or in
    Python, with parameters behind its name; `pretrained`; the folder of a training run.

    Args:
        resolve: from the settings of a training run to the game that its policy plays, which
            keeps the jobs, cluster and rules that it is judged under.

    Raises:
        UserError: where there is none, naming those that are known.
    """
    name = str(name)
    if name.partition(":")[0] in REGISTRY:
        return replace(rule_player(get_scheduler(name), name), classic=True)
    if is_scorer(name):
        return replace(
            rule_player(learned_scorer(name), name),
            # What `pretrained` was trained on is not here: it is judged as classic ones are.
            trained_on=None if name == PRETRAINED else load_scorer(name).config,
            weights_sha256=weights_digest(name),
        )
    if not Path(name).exists():
        if name.partition(":")[0] == PRETRAINED:
            get_scheduler(name)  # says what is wrong with it
        raise UserError(
            f"--scheduler {name!r}: neither a classic scheduler ({', '.join(REGISTRY)}) nor "
            "`pretrained` nor the folder of a training run"
        )
    from marl_sched.models.policy import load_policy

    policy = load_policy(Path(name))
    return policy_player(policy, name, resolve(policy.manifest.config))


def rule_player(scheduler: Scheduler, name: str | None = None) -> Player:
    """A scheduler of the registry, or one with other parameters, or a scorer."""

    def play(config: Config, part: str, episodes: list[Episode], tell: Tell = silent) -> Metrics:
        return Arena(config, part, episodes).play(scheduler, tell=tell)

    return Player(scheduler.name if name is None else name, _identity(scheduler), play)


def planner_player(
    name: str, planner: Planner | Scheduler | Callable[[], Planner], identity: str | None = None
) -> Player:
    """A planner of your own: any object with `allocate(view, nodes)`, see `schedulers.Planner`.

    Args:
        planner: it begins each episode as it is now (it is copied); or a class, or another
            function without arguments, that makes one for each episode; or a scheduler of the
            registry, asked as a planner is.
        identity: of the planner with its parameters, see `Player`.

    Raises:
        UserError: where it is none of these.
    """
    make = _maker(name, planner)

    def play(config: Config, part: str, episodes: list[Episode], tell: Tell = silent) -> Metrics:
        refuse_repack(name, config.sim)
        return Arena(config, part, episodes).play_planner(name, make, None, tell)

    return Player(name, identity, play)


def _maker(name: str, planner: Any) -> Callable[[], Planner]:
    """What makes the planner of an episode."""
    if isinstance(planner, Scheduler):
        return planner.new_planner
    if isinstance(planner, type) or not hasattr(planner, "allocate"):
        if not callable(planner) or (
            isinstance(planner, type) and not hasattr(planner, "allocate")
        ):
            raise UserError(
                f"scheduler {name!r}: {planner!r} has no method allocate(view, nodes), and makes "
                "nothing that has"
            )
        return planner

    def copied() -> Any:
        try:
            return copy.deepcopy(planner)
        except Exception as error:
            raise UserError(
                f"scheduler {name!r}: it cannot be copied for each episode ({error}); give its "
                "class, or a function that makes one"
            ) from None

    return copied


def policy_player(policy: LearnedPolicy, name: str, game: Config | None = None) -> Player:
    """A trained policy of PPO or DQN, which acts greedily.

    Args:
        game: that it plays, with the jobs, cluster and rules it is judged under; None: the one it
            is judged under.
    """
    manifest = policy.manifest

    def play(config: Config, part: str, episodes: list[Episode], tell: Tell = silent) -> Metrics:
        return _play_policy(policy, name, _judged(game, config), part, episodes)

    env = (validate_config(manifest.config) if game is None else game).env
    honest = env.agents == "learned" and policy.demand is None
    stands_on = {one: _identity(get_scheduler(one)) for one in (env.base, *env.algorithms)}
    identity = [manifest.sha256, manifest.agent_sha256, env.model_dump(mode="json"), stands_on]
    return Player(
        name,
        json.dumps(identity),
        play,
        agents="honest" if honest else env.agents,
        trained_on=manifest.config,
        weights_sha256=manifest.sha256,
    )


class Arena:
    """Episodes of a part of the workload, ready for one scheduler after the other."""

    def __init__(self, config: Config, part: str, episodes: list[Episode]) -> None:
        self.config = config
        self.episodes = episodes
        self.workload = load_part(config, part)
        window = max(episode.end - episode.first for episode in episodes)
        self._world = make_world(config, self.workload, 1, window)

    def play(
        self, scheduler: Scheduler, episodes: list[Episode] | None = None, tell: Tell = silent
    ) -> Metrics:
        """Metrics of `scheduler` on each of `episodes`; None: on all.

        Raises:
            UserError: where it cannot serve them, or not under the rules.
        """
        check_rules(scheduler, self.config.sim)
        if not scheduler.compiled:
            return self.play_planner(scheduler.name, scheduler.new_planner, episodes, tell)
        world, summaries = self._world, []
        for episode in self.episodes if episodes is None else episodes:
            params = play_episode(world, 0, episode.first, episode.end, episode.stretch, scheduler)
            results = self._results(episode)
            if scheduler.guarded:
                fraction = tally_of(params).fallback_fraction
                results = replace(results, fallback_fraction=fraction)
            summaries.append(results.summary())
        return summaries

    def play_planner(
        self,
        name: str,
        make: Callable[[], Planner],
        episodes: list[Episode] | None = None,
        tell: Tell = silent,
    ) -> Metrics:
        """Metrics of a planner, which begins each episode with no memory.

        Raises:
            UserError: where it cannot serve them.
        """
        check_whole_gpus(name, self.workload)
        chosen, summaries = self.episodes if episodes is None else episodes, []
        for number, episode in enumerate(chosen, start=1):
            jobs = episode.end - episode.first
            simulation = Simulation(self._world, episode.first, episode.end, episode.stretch)
            simulation.who = f"scheduler {name!r}"
            try:
                drive(simulation, make(), jobs, partial(_tell_of, tell, number, len(chosen)))
            except UserError as error:
                if f"scheduler {name!r}" in str(error):
                    raise
                raise UserError(f"scheduler {name!r}: {error}") from None
            self._world = simulation.world  # a larger one, where its tables had to grow
            summaries.append(self._results(episode).summary())
        return summaries

    def _results(self, episode: Episode) -> JobResults:
        """What became of the jobs of the episode that has just ended."""
        world, jobs = self._world, self.workload.slice(episode.first, episode.end)
        return job_results(jobs, int(world.total[0]), world.result[0], world.account[0])


def _tell_of(tell: Tell, number: int, count: int, text: str) -> None:
    tell(f"episode {number} of {count}, {text}")


def _play_policy(
    policy: LearnedPolicy, name: str, game: Config, part: str, episodes: list[Episode]
) -> Metrics:
    from marl_sched.envs.batched import spec_spaces
    from marl_sched.envs.learned_agents import agent_observation_space
    from marl_sched.evaluation.learned import run_learned

    refuse_repack(name, game.sim)
    try:
        policy.check(*spec_spaces(game), agent_observation_space())
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
    return run_learned(game, part, policy.act, episodes, policy.demand)


def _judged(game: Config | None, judged: Config) -> Config:
    """The game that a policy was trained on, with the jobs, cluster and rules of another."""
    if game is None:
        return judged
    sections = ("seed", "cluster", "workload", "sim", "evaluation")
    return game.model_copy(update={key: getattr(judged, key) for key in sections})


def _identity(scheduler: Scheduler) -> str:
    """Of a rule with its parameters; a scorer is the same wherever its folder lies."""
    name = "scorer" if scheduler.guarded else scheduler.name
    return json.dumps([name, scheduler.params, scheduler.weights])
