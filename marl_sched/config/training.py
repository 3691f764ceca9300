"""Settings of a training run and of its three algorithms."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from marl_sched.config.section import Count, Fraction, NonNegative, Positive, Section, Seed

Algorithm = Literal["ppo", "dqn", "es"]


class PPOSettings(Section):
    """PPO; starting values from the literature, see docs/learning.md."""

    lr: Positive = 1e-3
    gamma: Fraction = 1.0
    """Discount of a round; sub-steps of a round are not discounted."""
    discount_per_h: NonNegative = 0.0
    """Rate b of discounting simulated time: exp(-b hours), beside `gamma`."""
    lambda_: Fraction = 0.9
    """The reward credits each decision at once, so that little has to be traced back."""
    clip: Positive = 0.2
    kl_target: Positive = 0.01
    entropy: NonNegative = 0.0
    value_loss_coeff: Positive = 0.5
    epochs: Count = 3
    batch_size: Count = 4096
    """Scheduler decisions in one update."""
    minibatch_size: Count = 256
    grad_clip: Positive = 0.5


class DQNSettings(Section):
    """DQN with double Q, n-step returns, prioritised replay and a target network."""

    lr: Positive = 2.5e-4
    gamma: Fraction = 0.95
    """Applied once a round, not to sub-steps; low because rewards credit decisions at once."""
    discount_per_h: NonNegative = 0.0
    """As of PPO."""
    n_step: Count = 3
    batch_size: Count = 256
    buffer_size: Count = 100_000
    learning_starts: Count = 2000
    target_update: Count = 2000
    """Decisions between copies to the target network."""
    training_intensity: Positive = 4.0
    """Replayed decisions per sampled decision."""
    epsilon: tuple[Fraction, Fraction] = (0.15, 0.02)
    epsilon_decisions: Count = 50_000
    grad_clip: Positive = 10.0
    alpha: NonNegative = 0.6
    beta: NonNegative = 0.4
    decisions_per_iteration: Count = 4096


class ESSettings(Section):
    """Evolution strategies on the residual scorer, with the base schedule as control variate."""

    pairs: Count = 96
    """Antithetic pairs of perturbed networks in a generation."""
    sigma: Positive = 0.1
    """Standard deviation of a perturbation. Smaller ones drown in what any change at all does to a
    sequence (docs/learning.md)."""
    lr: Positive = 0.08
    """Adam's step at first; it is halved every `half_life` generations."""
    half_life: Positive = 40.0
    sequences: Count = 2
    """Sequences of jobs that every network of a generation is played on."""
    traces: tuple[str, ...] = ()
    """Traces to train on besides the workload's own; `synthetic` is the generator."""
    suite: str | None = None
    """Suite of `evaluate` whose clusters are trained on besides: their training parts, at any load;
    `--suite training`."""
    data: str | None = None
    """Folder of the public traces that the suite names."""
    averaging: Fraction = 0.9
    """What is validated and kept is a running mean of the generations: the share of it that stays
    in each. 0: the last one alone."""
    tune_index: bool = True
    """Train the index's own parameters along with the network."""
    without: tuple[str, ...] = ()
    """Features of `schedulers.learned.scorer` that the network must not use; for ablations."""


class TrainingConfig(Section):
    """One training run."""

    algo: Algorithm = "ppo"
    seed: Seed | None = None
    """Of networks, exploration and the episodes drawn by PPO and DQN; None: the experiment's,
    which is also that of the workload."""
    minutes: Positive | None = 8.0
    """Of training: learning, validation and checkpoints, over all resumes. Iterations make
    themselves smaller to keep to it."""
    iterations: Count | None = None
    """Stop after this many iterations; with `minutes` too, whichever comes first."""
    num_env_runners: Annotated[int, Field(ge=0)] = 2
    num_envs_per_runner: Count = 16
    validation_every: Count = 5
    """Iterations between validations."""
    validation_episodes: Count = 16
    checkpoint_every: Count = 5
    warm_start: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Share of the minutes (or iterations) in which evolution strategies train the residual scorer
    first, as `training.es` says; its best on validation then is the schedule that PPO or DQN
    act on. Percentages stay against `env.base`."""
    num_learners: Annotated[int, Field(ge=0)] = 0
    """Processes that learn, of PPO each on its part of the batch; 0: the driver itself."""
    num_gpus_per_learner: NonNegative = 0.0
    """Taken where the machine (with `num_learners` the cluster) has any GPU, else CPUs."""
    learner_resource: str | None = None
    """Custom Ray resource of which each learner takes one unit: learners go only to nodes that
    have it (`ray start --resources '{"learner": 1}'`), and take no CPU there."""
    ppo: PPOSettings = PPOSettings()
    dqn: DQNSettings = DQNSettings()
    es: ESSettings = ESSettings()

    @property
    def has_scorer(self) -> bool:
        """Whether evolution strategies take part."""
        return self.algo == "es" or self.warm_start > 0

    @model_validator(mode="after")
    def _has_an_end(self) -> TrainingConfig:
        if self.minutes is None and self.iterations is None:
            raise ValueError("give minutes or iterations")
        if self.algo == "es" and self.warm_start > 0:
            raise ValueError(
                "warm_start is for PPO and DQN; evolution strategies are what it consists of"
            )
        return self
