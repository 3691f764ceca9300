"""Evolution strategies on the residual scorer: its network, and the index below it.

    gradient = 1 / (2 n sigma) sum_i (u_i+ - u_i-) e_i

e_i are n perturbations, u the ranks, in [-1/2, 1/2], of the fitness -log(J / J_base) of both
networks theta +- sigma e_i; J is the cost that `env.reward` weighs, by default the mean JCT, and
the logs are averaged over sequences that all networks share. With `env.train_weights` theta is a
family of scorers, one for each weighting (`schedulers.learned.family`), and each sequence draws its
own weights: the networks are theta(w) +- sigma e_i, ranked on each sequence alone as costs of
different weightings are no measure of each other, and the gradient goes on to theta by the chain
rule.
Source: Salimans et al., "Evolution Strategies as a Scalable Alternative to
Reinforcement Learning", 2017; the base schedule as control variate is ours.

What is validated and kept is the running mean of theta (Polyak and Juditsky, "Acceleration of
stochastic approximation by averaging", SIAM J. Control Optim. 1992): one generation's theta is
noisier than what a generation gains.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from marl_sched.config import Config
from marl_sched.errors import UserError
from marl_sched.files import writing
from marl_sched.schedulers.learned.family import SIZE, shares, theta_at
from marl_sched.schedulers.learned.guard import Ranges, known
from marl_sched.schedulers.learned.scorer import (
    BIAS,
    FEATURES,
    HIDDEN,
    NUM_INDEX_PARAMS,
    NUM_WEIGHTS,
    initial_weights,
)
from marl_sched.schedulers.learned.scorer_file import ScorerRecord, load_scorer, save_scorer
from marl_sched.sim import columns as c
from marl_sched.training.diverged import Diverged, check_arrays
from marl_sched.training.records import Row, versions
from marl_sched.training.sequences import (
    Players,
    Sequence,
    at_all_weights,
    base_scheduler,
    draw,
    log_ratios,
    scorer_of,
    trained_weights,
)
from marl_sched.training.trainer import Candidate

STATE = "es.npz"
_WEIGHTS, _TRAINING, _VALIDATION = 1, 2, 3
"""Streams of random numbers of a seed."""


def centred_ranks(fitness: np.ndarray) -> np.ndarray:
    """Ranks of fitness (M,) scaled to [-1/2, 1/2]; equal values share theirs."""
    order = np.sort(fitness)
    lowest, highest = np.searchsorted(order, fitness), np.searchsorted(order, fitness, "right")
    return (lowest + highest - 1) / 2.0 / max(1, fitness.size - 1) - 0.5


class Ascent:
    """Adam on an estimated gradient, with a step that is halved every `half_life` steps."""

    BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8

    def __init__(self, theta: np.ndarray, lr: float, half_life: float) -> None:
        self.theta = theta
        self.mean, self.square = np.zeros_like(theta), np.zeros_like(theta)
        self.steps = 0
        self._lr, self._half_life = lr, half_life

    def step(self, gradient: np.ndarray) -> None:
        self.mean = self.BETA_1 * self.mean + (1 - self.BETA_1) * gradient
        self.square = self.BETA_2 * self.square + (1 - self.BETA_2) * gradient**2
        lr = self._lr * 0.5 ** (self.steps / self._half_life)
        self.steps += 1
        mean = self.mean / (1 - self.BETA_1**self.steps)
        square = self.square / (1 - self.BETA_2**self.steps)
        self.theta = self.theta + lr * mean / (np.sqrt(square) + self.EPSILON)


def perturbations(noise: np.ndarray, sigma: float) -> np.ndarray:
    """(2n, D): sigma e for each e of noise (n, D), then -sigma e."""
    return np.concatenate([sigma * noise, -sigma * noise])


def gradient_of(fitness: np.ndarray, noise: np.ndarray, sigma: float) -> np.ndarray:
    """(D,) float64 from fitness (2n,) of `perturbations`; see the module."""
    ranks = centred_ranks(fitness)
    pairs = len(noise)
    return (ranks[:pairs] - ranks[pairs:]) @ noise / (2 * pairs * sigma)


def free_weights(without: tuple[str, ...]) -> np.ndarray:
    """(NUM_WEIGHTS,) float64: 0 for weights of the features `without`, which stay 0, else 1."""
    free = np.ones(NUM_WEIGHTS)
    for name in without:
        if name not in FEATURES:
            raise UserError(
                f"setting training.es.without: no feature {name!r}; known: {', '.join(FEATURES)}"
            )
        free[:BIAS].reshape(-1, HIDDEN)[FEATURES.index(name)] = 0.0
    return free


class EvolutionStrategies:
    """Trains a scorer; all that is random in a generation depends on the seed and its number."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._es = config.training.es
        self._players = Players(config)
        shifts = np.full(NUM_INDEX_PARAMS, float(self._es.tune_index))
        self._free = np.concatenate([shifts, free_weights(self._es.without)])
        network = initial_weights([config.training_seed, _WEIGHTS])
        first = np.concatenate([np.zeros(NUM_INDEX_PARAMS), network]) * self._free
        first = np.concatenate([first, np.zeros(len(config.env.train_weights) * SIZE)])
        self._ascent = Ascent(first, self._es.lr, self._es.half_life)
        self._average = first
        self._jobs = 0
        self._seconds_per_pair = 0.0
        rng = np.random.default_rng([config.seed, _VALIDATION])
        drawn = draw(config, "validation", rng, config.training.validation_episodes)
        self._validation = at_all_weights(config, drawn)

    def iterate(self, seconds: float | None = None) -> Row:
        """One generation; of fewer pairs, where not all can be played in `seconds`."""
        try:
            return self._generation(seconds)
        except OverflowError:
            raise Diverged("diverged: the index's parameters are no finite numbers") from None

    def _generation(self, seconds: float | None) -> Row:
        es, theta, begun_s = self._es, self._ascent.theta, time.monotonic()
        rng = np.random.default_rng([self._config.training_seed, _TRAINING, self._ascent.steps])
        sequences = draw(self._config, "train", rng, es.sequences)
        noise = rng.standard_normal((es.pairs, SIZE)) * self._free
        if seconds is None:
            costs = self._play(sequences, theta, noise)
        else:
            costs, noise = self._play_within(begun_s + seconds, sequences, theta, noise)
        fitness = -log_ratios(costs, sequences)[:, 1:]
        check_arrays([fitness], "costs of the perturbed networks")
        gradient = self._gradient(fitness, sequences, noise)
        self._ascent.step(gradient)
        # The mean of all so far, until that is longer than the window.
        share = max(1.0 - es.averaging, 1.0 / self._ascent.steps)
        self._average = self._average + share * (self._ascent.theta - self._average)
        self._check_finite()
        jct = costs[:, :, c.COST_COMPLETION]
        networks = costs.shape[1] - 1
        self._jobs += networks * sum(s.end - s.first for s in sequences)
        self._seconds_per_pair = (time.monotonic() - begun_s) / len(noise)
        return {
            "decisions": self._jobs,
            "num_episodes": networks * len(sequences),
            "jct_vs_base_percent": _percent(np.log(jct[:, 1] / jct[:, 0]).mean()),
            "gradient_norm": float(np.linalg.norm(gradient)),
        }

    def _play(self, sequences: list[Sequence], theta: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """(S, 2 + 2n, 7): the base's costs, those of theta, and of all its perturbations."""
        offsets = np.concatenate([np.zeros((1, SIZE)), perturbations(noise, self._es.sigma)])
        return self._players.play(sequences, theta, offsets)[0]

    def _play_within(
        self, until_s: float, sequences: list[Sequence], theta: np.ndarray, noise: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `_play`, of as many pairs as can be played until then, one at least; and their noise.

        They are played in parts, each twice as large as those before it together, and no larger
        than the time left has room for, by how long these took.
        """
        begun_s, done = time.monotonic(), 1
        costs = self._play(sequences, theta, noise[:1])
        while done < len(noise):
            now_s = time.monotonic()
            room = int(done * (until_s - now_s) / max(1e-9, now_s - begun_s))
            count = min(len(noise) - done, max(2 * done, self._pairs_known_to_fit(until_s)), room)
            if count < 1:
                break
            more = self._play(sequences, theta, noise[done : done + count])[:, 2:]
            first = 2 + done
            costs = np.concatenate(
                [costs[:, :first], more[:, :count], costs[:, first:], more[:, count:]], axis=1
            )
            done += count
        return costs, noise[:done]

    def _pairs_known_to_fit(self, until_s: float) -> int:
        """By how long the last generation took, if they took twice as long now."""
        if self._seconds_per_pair == 0.0:
            return 0
        return int((until_s - time.monotonic()) / (2.0 * self._seconds_per_pair))

    def _check_finite(self) -> None:
        """See that what was learned is a scorer, for each term of the reward alone too."""
        base, terms = base_scheduler(self._config), len(self._config.env.train_weights)
        for theta in (self._ascent.theta, self._average):
            for weights in np.eye(terms) if terms else np.empty((1, 0)):
                scorer = scorer_of(base, theta_at(theta, weights))
                numbers = np.array([*scorer.params.values(), *scorer.weights[:NUM_WEIGHTS]])
                with np.errstate(over="ignore"):
                    check_arrays([numbers.astype(np.float32)], "weights of the scorer")

    def shortest_s(self) -> float:
        """As long as a quarter of a generation takes."""
        return self._seconds_per_pair * self._es.pairs / 4

    def algorithm(self) -> str:
        return "es"

    def prepare(self) -> None:
        """Nothing is to be done."""

    def is_due(self) -> bool:
        return False

    def _gradient(
        self, fitness: np.ndarray, sequences: list[Sequence], noise: np.ndarray
    ) -> np.ndarray:
        """Of theta, from fitness (S, 2n) of the networks on each sequence."""
        if not self._config.env.train_weights:
            return gradient_of(fitness.mean(axis=0), noise, self._es.sigma)
        found = np.zeros((1 + len(self._config.env.train_weights), SIZE))
        for row, sequence in zip(fitness, sequences, strict=True):
            at = shares(trained_weights(self._config, sequence))
            found += np.outer(at, gradient_of(row, noise, self._es.sigma)) / len(sequences)
        return found.ravel()

    def candidate(self, iteration: int, is_base: bool) -> ScorerCandidate:
        return ScorerCandidate(self, self._average, iteration)

    def singles(self) -> dict[str, Candidate]:
        return {}

    def validate(self, theta: np.ndarray) -> tuple[float, Ranges]:
        """Cost against the base on the validation sequences, percent of the geometric mean, and
        the states that it met there. For all weights: the mean of `at_all_weights`."""
        every = [one for point in self._validation for one in point]
        costs, met = self._players.play(every, theta, np.zeros((1, SIZE)))
        logs = log_ratios(costs, every).reshape(len(self._validation), -1)
        return float(np.mean([_percent(one) for one in logs.mean(axis=1)])), met

    def record(self, theta: np.ndarray, iteration: int, score: float, seen: Ranges) -> ScorerRecord:
        base = base_scheduler(self._config)
        terms = self._config.env.train_weights
        even = theta_at(theta, np.full(len(terms), 1.0 / max(1, len(terms))))
        scorer = scorer_of(base, even)
        return ScorerRecord(
            params=scorer.params,
            weights=scorer.weights[:NUM_WEIGHTS],
            fallback=base.params,
            seen=known(seen),
            iteration=iteration,
            validation=score,
            config=self._config.model_dump(mode="json"),
            versions=versions(),
            terms=terms,
            thetas=tuple(map(tuple, theta.reshape(-1, SIZE).tolist())) if terms else (),
        )

    def best_in(self, folder: Path) -> tuple[int, float]:
        record = load_scorer(folder)
        return record.iteration, record.validation

    def save_to_path(self, path: str) -> None:
        folder, ascent = Path(path), self._ascent
        with writing(folder / STATE):
            folder.mkdir(parents=True, exist_ok=True)
            np.savez(
                folder / STATE,
                theta=ascent.theta,
                average=self._average,
                mean=ascent.mean,
                square=ascent.square,
                steps=ascent.steps,
                jobs=self._jobs,
            )

    def restore_from_path(self, path: str) -> None:
        ascent = self._ascent
        with np.load(Path(path) / STATE, allow_pickle=False) as saved:
            ascent.theta, ascent.mean, ascent.square = (
                saved[name] for name in ("theta", "mean", "square")
            )
            self._average = saved["average"]
            ascent.steps, self._jobs = int(saved["steps"]), int(saved["jobs"])

    def stop(self) -> None:
        """Ray's tasks end by themselves."""


class ScorerCandidate:
    """The weights of a generation."""

    cautious = False

    def __init__(self, es: EvolutionStrategies, theta: np.ndarray, iteration: int) -> None:
        self._es, self._theta, self._iteration = es, theta, iteration
        self._seen: Ranges | None = None

    def score(self) -> float:
        score, self._seen = self._es.validate(self._theta)
        return score

    def save(self, folder: Path, score: float) -> None:
        if self._seen is None:  # scored by somebody else
            self.score()
        assert self._seen is not None
        save_scorer(self._es.record(self._theta, self._iteration, score, self._seen), folder)


def _percent(log_ratio: float) -> float:
    return 100.0 * float(np.expm1(log_ratio))
