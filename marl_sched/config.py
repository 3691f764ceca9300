"""Every setting of the project, validated; an unknown key is an error.

`load_config(file, overrides)` resolves defaults < YAML file < `--set a.b=c`. The resolved
configuration is saved beside each run as `config.yaml` and can be passed back with `--config`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from marl_sched.errors import UserError

Algorithm = Literal["ppo", "dqn", "es"]
ActionSpace = Literal["meta", "edit", "full"]
Credit = Literal["shadow", "lookahead"]
RewardTerm = Literal[
    "completion_time", "slowdown", "fairness", "utilisation", "deadline", "preemption", "energy"
]
AgentBehaviour = Literal["honest", "greedy", "yielding", "learned"]
Placement = Literal[
    "consolidate",
    "first_fit",
    "best_fit",
    "spread",
    "random",
    "dot_prod",
    "gpu_packing",
    "gpu_clustering",
    "fgd",
]
TraceFormat = Literal["philly", "itp", "muri", "chronus", "slurm", "csv"]

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Count = Annotated[int, Field(ge=1)]


class _Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        validate_default=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
    )


class SyntheticConfig(_Section):
    """The seeded generator that stands in where no trace is given."""

    num_jobs: Count = 6000
    load: Positive = 0.9
    """Offered load: GPU-seconds asked per GPU-second that the cluster has."""
    median_duration_s: Positive = 1800.0
    """Median isolated run time, as in the Philly trace (1,634 s)."""
    sigma: NonNegative = 1.6
    """Log-normal spread of run times; Philly's 5-95 % range fits about 1.7."""
    max_duration_s: Positive = 5 * 86400.0
    daily_cycle: Fraction = 0.5
    """Relative swing of the arrival rate over a day; 0 is a plain Poisson process."""


class WorkloadConfig(_Section):
    """Which jobs arrive, and what a scheduler may know about them."""

    trace: str | None = None
    """Path of a trace; none means the synthetic generator."""
    format: TraceFormat | None = None
    """None recognises the format by its header."""
    tenants: tuple[str, ...] = ()
    """Only the jobs of these tenants (Philly: virtual clusters); none named: all jobs."""
    load: Annotated[float, Field(ge=1e-4, le=1e4)] | None = None
    """Rescale arrivals to this offered load; None keeps the trace's own times."""
    burstiness: Positive = 1.0
    """Exponent of the gaps between arrivals, whose sum is kept: above 1 jobs come in bursts,
    below 1 evenly."""
    estimate_noise: Annotated[float, Field(ge=0.0, le=20.0)] = 1.0
    """Sigma of the log-normal factor on the sizes that schedulers see."""
    elastic_fraction: Fraction = 1.0
    """Share of jobs that may run on other sizes than they ask for."""
    elastic_max_factor: Count = 4
    """An elastic job may grow to this multiple of its request."""
    split: tuple[Fraction, Fraction, Fraction] = (0.6, 0.2, 0.2)
    """Chronological shares of the trace for training, validation and test."""
    skip_bad_rows: bool = False
    """Count and report rows that cannot be used instead of refusing the file."""
    synthetic: SyntheticConfig = SyntheticConfig()

    @model_validator(mode="after")
    def _split_sums_to_one(self) -> WorkloadConfig:
        if abs(sum(self.split) - 1.0) > 1e-9:
            raise ValueError("split must sum to 1")
        return self


class SimConfig(_Section):
    """Rules of the simulated cluster."""

    round_s: Positive = 600.0
    """A decision epoch comes at the latest this long after the last one."""
    restart_scale: NonNegative = 1.0
    """Multiplies every model's restart cost."""
    charge_first_start: bool = False
    """Charge the restart cost at a job's first start too. Off by default: a recorded run
    time already contains the job's own start."""
    placement: Placement = "consolidate"
    """Which nodes a gang gets: the tightest one, else the fewest (`consolidate`); the first with
    room (`first_fit`); the one with least or most left over (`best_fit`, `spread`); any
    (`random`); or the best by a score of the FGD study (`dot_prod`, `gpu_packing`,
    `gpu_clustering`, `fgd`), see `sim/scoring.py`."""
    decide_on: Literal["events", "rounds"] = "events"
    """`rounds`: schedulers decide only at multiples of `round_s`."""
    repack: bool = False
    """At every epoch place all jobs anew in the scheduler's order, passing over those that find
    no room; for schedulers that are an order."""
    sharing: Literal["interference", "time_slice"] = "interference"
    """How jobs with a share of the same GPU slow each other down: as measured for their models,
    or each by the number of them."""
    network_contention: bool = False
    """Gangs that span nodes share their nodes' network."""
    node_mtbf_h: Positive | None = None
    """Mean time between failures of a node, hours; None: nodes do not fail."""
    node_mttr_h: Positive = 1.0
    """Mean time to repair of a node, hours."""
    job_mtbf_h: Positive | None = None
    """Mean held time between failures of a job that names no rate of its own, hours."""
    checkpoint_interval_s: NonNegative = 1800.0
    """Working time between checkpoints of a job that names none; a failure loses what came
    after the last one. 0: nothing is ever lost."""
    max_retries: Annotated[int, Field(ge=0)] | None = None
    """A job that fails more often ends as failed; None: as often as its trace allows."""
    node_events: str | None = None
    """CSV file of times at which nodes go down, come up or are reclaimed: columns time_s (from the
    first arrival), node, event (down, up, reclaim) and optionally notice_s."""
    tenant_quota: dict[str, NonNegative] = {}
    """Most GPUs that a tenant may hold; others have no limit."""
    cross_rack_rate: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Speed of a gang that spans racks, relative to one that spans nodes of a rack."""
    overhead_each_epoch: bool = False
    """At every epoch each running job is charged its restart cost anew, though its predicted end
    ignores it; as Muri's simulator does."""
    whole_second_phases: bool = False
    """The time to the end of a phase is rounded to whole seconds; as Pollux' simulator does."""


class RewardWeights(_Section):
    """Weights of the reward's terms; normalised to the simplex where they are used."""

    completion_time: NonNegative = 1.0
    slowdown: NonNegative = 0.0
    fairness: NonNegative = 0.0
    utilisation: NonNegative = 0.0
    deadline: NonNegative = 0.0
    preemption: NonNegative = 0.0
    energy: NonNegative = 0.0

    @model_validator(mode="after")
    def _not_all_zero(self) -> RewardWeights:
        if sum(self.model_dump().values()) <= 0:
            raise ValueError("at least one reward weight must be positive")
        return self


class EnvConfig(_Section):
    """The multi-agent scheduling game."""

    actions: ActionSpace = "meta"
    """`meta`: take the base schedule or an algorithm's; `edit`: change the base schedule job
    by job; `full`: both."""
    base: str = "elastic_index:tuned"
    """Schedule that `commit` takes, that edits start from, and the reward's shadow."""
    algorithms: tuple[str, ...] = (
        "elastic_index:tuned,p=0.6",
        "elastic_index:tuned,p=0.9",
        "elastic_index:tuned,h=0.6",
        "elastic_index:tuned,b=8",
        "elastic_srsf:tuned",
        "afs",
    )
    """What `take algorithm a` chooses among besides the base: the index with more or less
    weight on short jobs and on keeping what runs, and the two other rules that come near it
    (docs/learning.md). The rigid rules cost about twice the base and would only be unlearned."""
    job_slots: Count = 32
    """Jobs that the observation shows one by one; the rest is pooled."""
    max_edits: Count = 4
    """Edits in one round before it commits by itself."""
    jobs_per_episode: Count | None = None
    """None: enough jobs to fill the cluster several times, see `envs.batched.episode_jobs`."""
    train_load: tuple[Positive, Positive] | None = (0.5, 1.2)
    """Each training episode draws its offered load here (domain randomisation); None trains
    at the workload's own load, which is always among those drawn."""
    train_restart_scale: tuple[Positive, Positive] | None = (0.5, 2.0)
    """Each training episode draws a factor of its restart costs here, log-uniformly."""
    train_estimate_noise: tuple[NonNegative, NonNegative] | None = (0.5, 1.5)
    """Each training episode draws the noise of its size estimates here, unless they are exact
    (`workload.estimate_noise` 0)."""
    train_clusters: tuple[str, ...] = ()
    """Clusters to train on besides the configured one, also of other GPU types: evolution
    strategies draw one for each sequence, env runners take them in turn. Jobs that do not fit are
    left out."""
    agents: AgentBehaviour = "honest"
    """How deep-learning agents declare their demand."""
    demand_period_s: Positive = 7200.0
    """A learned agent declares its demand on arrival and again after this time."""
    demand_price: NonNegative = 0.0
    """Price of GPUs to a learned agent: isolated seconds for each GPU-second that its job
    holds, over its request; 0 lets selfish agents ask for all they can use."""
    credit: Credit | None = None
    """How a decision earns its part of the episode's return: `shadow` what has been saved until
    the next decision; `lookahead` what the whole rest of the episode saves by it, which is played
    with the base schedule after each round that was changed: random play costs fifty times as
    much, but learning is better with it (docs/learning.md). None: `train` looks ahead, the
    environment by itself does not. Learned agents need the second, as the shadow cannot follow
    what they will declare."""
    reward: RewardWeights = RewardWeights()
    train_weights: tuple[RewardTerm, ...] = ()
    """Each training episode draws its own reward weights over these terms, so that one network,
    which sees the weights, learns all of them; what it is kept by is its mean validation score
    at each term alone and at all of them evenly. None named: always `reward`."""


class ModelConfig(_Section):
    """The set-structured network."""

    job_hidden: Count = 32
    """Width of the shared per-job encoder."""
    context_hidden: Count = 64
    """Width of the pooled global context."""
    commit_bias: float = 0.0
    """PPO's initial log-odds of `commit` against all other legal actions together: at 0
    half of the first decisions explore, while the greedy policy takes the base schedule."""
    agent_hidden: Count = 64
    """Width of the learned agents' two layers."""
    honest_bias: float = 2.0
    """A learned agent's initial log-odds of asking for all that its job can use."""


class PPOSettings(_Section):
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


class DQNSettings(_Section):
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


class ESSettings(_Section):
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
    """Features of `schedulers.scorer` that the network must not use; for ablations."""


class TrainingConfig(_Section):
    """One training run."""

    algo: Algorithm = "ppo"
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    """Of networks, exploration and the episodes drawn by PPO and DQN; None: the experiment's,
    which is also that of the workload."""
    minutes: Positive | None = 8.0
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

    @model_validator(mode="after")
    def _has_an_end(self) -> TrainingConfig:
        if self.minutes is None and self.iterations is None:
            raise ValueError("give minutes or iterations")
        if self.algo == "es" and self.warm_start > 0:
            raise ValueError(
                "warm_start is for PPO and DQN; evolution strategies are what it consists of"
            )
        return self


class EvaluationConfig(_Section):
    """Paired comparison on episodes that training never saw."""

    episodes: Count = 20
    jobs_per_episode: Count | None = None
    """None: as in training."""
    bound_episodes: Annotated[int, Field(ge=0)] = 4
    """Episodes, evenly spread, whose lower bound is computed (a second or two each); 0: none."""
    schedulers: tuple[str, ...] = (
        "fcfs",
        "fcfs_backfill",
        "srtf",
        "las",
        "equi",
        "elastic_index",
        "elastic_index:tuned",
    )
    """Classic schedulers shown beside a trained one."""


class Config(_Section):
    """The whole experiment."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    cluster: str = "8x8"
    """`NODESxGPUS[:TYPE]` joined with `+`, or the path of a YAML file."""
    workload: WorkloadConfig = WorkloadConfig()
    sim: SimConfig = SimConfig()
    env: EnvConfig = EnvConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @property
    def training_seed(self) -> int:
        """Seed of networks, exploration and drawn episodes: `training.seed`, else `seed`."""
        return self.seed if self.training.seed is None else self.training.seed

    @model_validator(mode="after")
    def _learned_agents_need_ppo(self) -> Config:
        if self.env.agents == "learned" and self.training.algo != "ppo":
            raise ValueError(
                "--agents learned is trained by PPO only: take --algo ppo, or --agents honest, "
                "greedy or yielding"
            )
        return self


def load_config(
    file: Path | None = None,
    overrides: tuple[str, ...] | list[str] = (),
    defaults: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
) -> Config:
    """Resolve `defaults` (nested) < YAML `file` < `overrides` ("a.b=c") < `options` (nested).

    Raises:
        UserError: naming the file or key, what is wrong with it, and what is known there.
    """
    data: dict[str, Any] = {}
    _merge(data, defaults or {})
    if file is not None:
        _merge(data, _read_yaml(file))
    for override in overrides:
        _merge(data, _parse_override(override))
    _merge(data, options or {})
    return validate_config(data, where=str(file) if file is not None else "configuration")


def validate_config(data: dict[str, Any], where: str = "configuration") -> Config:
    """A `Config` of nested plain data, or a `UserError` naming the first bad key."""
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            parent = ".".join(str(part) for part in first["loc"][:-1])
            known = ", ".join(_known_keys(first["loc"][:-1]))
            raise UserError(
                f"{where}: unknown setting {key!r}; known in "
                f"{parent or 'the configuration'}: {known}"
            ) from None
        message = first["msg"].removeprefix("Value error, ")
        if not key:  # settings that do not go together
            raise UserError(f"{where}: {message}") from None
        raise UserError(
            f"{where}: setting {key or 'configuration'}={first.get('input')!r}: {message}"
        ) from None


def save_config(config: Config, path: Path) -> None:
    """Write `config` as YAML, to a temporary name first."""
    from marl_sched.files import write_text

    write_text(path, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))


def _merge(into: dict[str, Any], new: dict[str, Any]) -> None:
    for key, value in new.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        elif isinstance(value, dict):
            if into.get(key) is not None:
                raise UserError(f"setting {key!r} is a section of settings, not {into[key]!r}")
            into[key] = {}
            _merge(into[key], value)
        else:
            into[key] = value


def _read_yaml(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise UserError(f"configuration file {file}: no such file")
    try:
        data = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(
            f"configuration file {file}: not YAML: {' '.join(str(error).split())}"
        ) from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise UserError(f"configuration file {file}: needs settings as 'key: value' lines")
    return data


def _parse_override(text: str) -> dict[str, Any]:
    key, found, value = text.partition("=")
    if not found or not key.strip():
        raise UserError(f"--set {text!r}: write it as key=value, for example --set sim.round_s=300")
    try:
        parsed: Any = yaml.safe_load(value)
    except yaml.YAMLError:
        parsed = value
    for part in reversed(key.strip().split(".")):
        parsed = {part: parsed}
    return dict(parsed)


def _known_keys(loc: tuple[int | str, ...]) -> list[str]:
    model: type[BaseModel] = Config
    for part in loc:
        field = model.model_fields.get(str(part))
        annotation = field.annotation if field is not None else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return sorted(model.model_fields)
