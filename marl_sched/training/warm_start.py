"""A run that begins with evolution strategies: PPO or DQN then act on the scorer that comes out.

One edit's effect on an episode is too noisy for PPO to gain anything on the elastic index
(docs/learning.md); evolution strategies, which judge whole episodes, do gain. Both stages are
iterations of one run, scored on the same validation episodes against `env.base`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

from marl_sched.config import Config
from marl_sched.evaluation.learned import Score, base_costs, validate, validate_base
from marl_sched.files import write_text
from marl_sched.locks import scratch_folder
from marl_sched.models.policy import BASE, load_policy
from marl_sched.schedulers.scorer_file import is_scorer, load_scorer
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
        elapsed_s: time spent on the run so far.
    """

    def __init__(
        self, config: Config, env_class: str, base: Path, elapsed_s: Callable[[], float]
    ) -> None:
        self._config, self._env_class = config, env_class
        self._base, self._elapsed_s = base, elapsed_s
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

    def iterate(self) -> Row:
        if self._then is None and self._is_over():
            self._then = self._begin()
        row = self._trainer.iterate()
        self._iterations += 1
        if self._then is None:
            self._jobs = row["decisions"]
            return row | {"warm_start": 1}
        return row | {"warm_start": 0, "decisions": self._jobs + row["decisions"]}

    def _is_over(self) -> bool:
        """Whether the warm start's share of the run is over; it has one iteration at least."""
        limits = self._config.training
        share, count, minutes = limits.warm_start, limits.iterations, limits.minutes
        if count is not None and self._iterations >= max(1, round(share * count)):
            return True
        late = minutes is not None and self._elapsed_s() >= 60.0 * share * minutes
        return late and self._iterations > 0

    def _begin(self) -> RLlibTrainer:
        """PPO or DQN on the best scorer so far."""
        name = f"{BASE}-{load_scorer(self._base).iteration}"
        config = on_base(self._config, self._base)
        return RLlibTrainer(config, self._env_class, self._validate, name)

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
