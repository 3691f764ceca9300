"""Settings of the scheduling game: actions, training conditions, rewards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, create_model, field_validator, model_validator
from typing_extensions import Self

from marl_sched import terms
from marl_sched.config.section import Count, NonNegative, Positive, Section

ActionSpace = Literal["meta", "edit", "full"]
AgentBehaviour = Literal["honest", "greedy", "yielding", "learned"]
Credit = Literal["shadow", "lookahead"]


def _known(term: str) -> str:
    if term not in terms.NAMES:
        raise ValueError(f"{term!r} is no term; known: {', '.join(terms.NAMES)}")
    return term


RewardTerm = Annotated[str, AfterValidator(_known)]
"""A name in `terms.TERMS`."""


class _Weights(Section):
    """Weights of the reward's terms; normalised to the simplex where they are used."""

    @model_validator(mode="after")
    def _not_all_zero(self) -> Self:
        if sum(self.model_dump().values()) <= 0:
            raise ValueError("at least one reward weight must be positive")
        return self

    @property
    def only_completion_time(self) -> bool:
        """Whether what they weigh is the mean JCT alone."""
        return list(self.shares) == ["completion_time"]

    @property
    def shares(self) -> dict[str, float]:
        """Term -> its share, of those that have a weight."""
        total = sum(weight for _, weight in self)
        return {term: weight / total for term, weight in self if weight > 0}

    @property
    def words(self) -> str:
        """What they weigh, for people."""
        if self.only_completion_time:
            return "mean JCT"
        return "cost by " + ", ".join(f"{term} {share:.2f}" for term, share in self.shares.items())


if TYPE_CHECKING:

    class RewardWeights(_Weights):
        """A weight >= 0 for each of `terms.TERMS`, a field each."""

        def __init__(self, **weights: float) -> None: ...

        def __getattr__(self, name: str) -> float: ...

else:
    RewardWeights = create_model(
        "RewardWeights",
        __base__=_Weights,
        __module__=__name__,
        **{term.name: (NonNegative, term.default) for term in terms.TERMS},
    )


class EnvConfig(Section):
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
    """None: enough jobs to fill the cluster several times, see `envs.episodes.episode_jobs`."""
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

    @field_validator("train_weights")
    @classmethod
    def _each_once(cls, named: tuple[RewardTerm, ...]) -> tuple[RewardTerm, ...]:
        if len(set(named)) < len(named):
            raise ValueError("name each term once")
        return named
