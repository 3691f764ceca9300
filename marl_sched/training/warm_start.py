"""A run that begins with evolution strategies: PPO or DQN then act on the scorer that comes out.

One edit's effect on an episode is too noisy for PPO to gain anything on the elastic index
(docs/learning.md); evolution strategies, which judge whole episodes, do gain. Both stages are
iterations of one run, scored on the same validation episodes against `env.base`.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from marl_sched.config import Config
from marl_sched.evaluation.learned import Score, base_costs, validate, validate_base
from marl_sched.files import write_text
from marl_sched.locks import scratch_folder
from marl_sched.models.policy import BASE, load_policy
from marl_sched.schedulers.learned.scorer_file import is_scorer, load_scorer
from marl_sched.training.clock import Budget, Clock
from marl_sched.training.es import EvolutionStrategies
from marl_sched.training.records import Row
from marl_sched.training.rllib import RLlibTrainer, score_policy
from marl_sched.training.trainer import Candidate, Trainer

STAGE, INNER = "stage.json", "trainer"


def on_base(config: Config, base: Path) -> Config:
    """The experiment on the scorer in the folder `base`."""
    env = config.env.model_copy(update={"base": str(base.resolve())})
    return config.model_copy(update={"env": env})


class WarmStarted:
    """First evolution strategies, then PPO or DQN on their best scorer; a `Trainer`.

    Args:
        base: folder that keeps the best scorer; runners have to see it.
        clock: of the run; it stands still while PPO or DQN are started.
        budget: of the run, of which the warm start has its share.
    """

    def __init__(
        self, config: Config, env_class: str, base: Path, clock: Clock, budget: Budget
    ) -> None:
        self._config, self._env_class = config, env_class
        self._base, self._clock, self._budget = base, clock, budget
        self._reference = base_costs(config)
        self._validate = partial(validate, reference=self._reference)
        self._warm = EvolutionStrategies(config)
        self._then: RLlibTrainer | None = None
        self._iterations = 0
        self._jobs = 0
        """That the warm start has played."""

    @property
    def _trainer(self) -> Trainer:
        return self._warm if self._then is None else self._then

    def algorithm(self) -> str:
        return self._trainer.algorithm()

    def prepare(self) -> None:
        if self._then is None and self._is_over():
            self._then = self._begin()

    def iterate(self, seconds: float | None = None) -> Row:
        if self._then is None:
            seconds = self._budget.left_s(self._config.training.warm_start)
        row = self._trainer.iterate(seconds)
        self._iterations += 1
        if self._then is None:
            self._jobs = row["decisions"]
            return row | {"warm_start": 1}
        return row | {"warm_start": 0, "decisions": self._jobs + row["decisions"]}

    def _is_over(self) -> bool:
        """Whether the warm start's share of the run is over; it has one iteration at least."""
        share, count = self._config.training.warm_start, self._config.training.iterations
        if count is not None and self._iterations >= max(1, round(share * count)):
            return True
        left_s = self._budget.left_s(share)
        late = left_s is not None and left_s <= self._warm.shortest_s()
        return late and self._iterations > 0

    def shortest_s(self) -> float:
        return 0.0 if self.is_due() else self._trainer.shortest_s()

    def is_due(self) -> bool:
        """The last scorer of the warm start is validated: PPO or DQN would act on it."""
        return self._then is None and self._iterations > 0 and self._is_over()

    def _begin(self) -> RLlibTrainer:
        """PPO or DQN on the best scorer so far."""
        with self._clock.paused():
            name = f"{BASE}-{load_scorer(self._base).iteration}"
            config = on_base(self._config, self._base)
            then = RLlibTrainer(config, self._env_class, self._validate, name)
            if self._config.training.minutes is not None:
                # A network's validation takes longer than a scorer's: how long, is to be known.
                with self._budget.validating():
                    then.candidate(0, True).score()
        return then

    def candidate(self, iteration: int, is_base: bool) -> Candidate:
        made = self._trainer.candidate(iteration, is_base)
        return made if self._then is not None else ScorerAsBase(self, made)

    def singles(self) -> dict[str, Candidate]:
        return self._trainer.singles()

    def score_scorer(self, folder: Path) -> Score:
        """The score of the scorer in `folder`, committed throughout."""
        return validate_base(on_base(self._config, folder), self._reference)

    def keep(self, candidate: Candidate, folder: Path, score: float) -> None:
        """Save a scorer as what PPO or DQN would act on, and as the best of the run."""
        candidate.save(self._base, score)
        candidate.save(folder, score)

    def best_in(self, folder: Path) -> tuple[int, Score | float]:
        if is_scorer(str(folder)):
            return load_scorer(folder).iteration, self.score_scorer(folder)
        policy = load_policy(folder)
        return policy.manifest.iteration, score_policy(policy, self._config, self._validate)

    def save_to_path(self, path: str) -> None:
        folder = Path(path)
        stage = {
            "warm_start": self._then is None,
            "iterations": self._iterations,
            "jobs": self._jobs,
        }
        write_text(folder / STAGE, json.dumps(stage) + "\n")
        self._trainer.save_to_path(str((folder / INNER).resolve()))

    def restore_from_path(self, path: str) -> None:
        stage = json.loads((Path(path) / STAGE).read_text(encoding="utf-8"))
        self._iterations, self._jobs = stage["iterations"], stage["jobs"]
        if not stage["warm_start"]:
            self._then = self._begin()
        self._trainer.restore_from_path(str((Path(path) / INNER).resolve()))

    def stop(self) -> None:
        self._warm.stop()
        if self._then is not None:
            self._then.stop()


class ScorerAsBase:
    """The scorer of a generation, scored as the base schedule that PPO or DQN would act on."""

    cautious = False

    def __init__(self, trainer: WarmStarted, made: Candidate) -> None:
        self._trainer, self._made = trainer, made

    def score(self) -> Score:
        with scratch_folder() as folder:
            self._made.save(folder, 0.0)
            return self._trainer.score_scorer(folder)

    def save(self, folder: Path, score: float) -> None:
        self._trainer.keep(self._made, folder, score)
