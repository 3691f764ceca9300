"""The registry: numbers, names, parameters."""

from __future__ import annotations

import numpy as np
import pytest

from marl_sched.compiled.jit import part
from marl_sched.errors import UserError
from marl_sched.schedulers import REGISTRY, Scheduler, get_scheduler, make_scorer
from marl_sched.schedulers.dispatch import EVERYBODY, ORDERS, SIZES
from marl_sched.schedulers.learned.scorer import initial_weights
from marl_sched.schedulers.mechanisms.serving import serve_all, serve_waiting
from marl_sched.schedulers.params import NOT_NEGATIVE, Param
from marl_sched.types import ClusterView, Floats1
from tests.schedulers.views import random_view

NAMES = (
    "fcfs", "fcfs_backfill", "sjf", "srtf", "round_robin", "las", "drf", "equal", "on_demand",
    "priority", "random", "equi", "elastic_index", "conservative_backfill", "srsf", "qssf",
    "tiresias", "gittins", "edf", "rate_monotonic", "hesrpt", "afs", "optimus", "themis", "pollux",
)  # fmt: skip

ELASTIC_ORDERS = ("elastic_fcfs", "elastic_srtf", "elastic_srsf", "elastic_las",
                  "elastic_tiresias", "elastic_gittins")  # fmt: skip

PLANNERS = (
    "sia", "max_min_fairness", "max_sum_throughput", "min_total_duration", "gandiva_fair",
)  # fmt: skip


def test_the_names_of_the_issue() -> None:
    compiled = [scheduler for scheduler in REGISTRY.values() if scheduler.compiled]
    assert sorted(scheduler.name for scheduler in compiled) == sorted(NAMES + ELASTIC_ORDERS)
    # The scorer is in no registry: it comes with learned weights.
    learned = make_scorer(REGISTRY["elastic_index"].params, initial_weights(0).tolist())
    plain = [scheduler for scheduler in compiled if not scheduler.ranks]
    # One number each, and each rule once in its table.
    numbers = {scheduler.number for scheduler in (*compiled, learned)}
    assert len(numbers) == len(compiled) + 1
    assert {one.rule for one in (*plain, learned)} <= {*ORDERS.parts, *SIZES.parts}
    for table in (ORDERS, SIZES):
        assert len(set(table.parts)) == len(table.parts)
    assert sorted(set(REGISTRY) - {one.name for one in compiled}) == sorted(PLANNERS)


@pytest.mark.parametrize("name", PLANNERS)
def test_a_planner_is_made_anew_and_runs_in_no_kernel(name: str) -> None:
    scheduler = REGISTRY[name]
    assert scheduler.new_planner() is not scheduler.new_planner()
    assert "Source:" in (scheduler.planner.__doc__ or "")  # type: ignore[union-attr]
    with pytest.raises(UserError, match="plain Python"):
        assert scheduler.number


def by_its_rule(scheduler: Scheduler, view: ClusterView) -> np.ndarray:
    """Levels by calling the rule itself, not by its number."""
    assert scheduler.rule is not None
    target = np.minimum(view.level, view.limit_level)
    assert scheduler.rule is not None
    if not scheduler.is_order:
        scheduler.rule(view, scheduler.param_array, target)
        return target
    key = np.empty(view.job.size)
    scheduler.rule(view, scheduler.param_array, key)
    if scheduler.preemptive:
        serve_all(view.with_own_scratch(), key, target)
    else:
        serve_waiting(view, key, scheduler.name in ("fcfs", "qssf"), target)
    return target


@pytest.mark.parametrize("name", NAMES)
def test_a_number_calls_its_own_rule(name: str) -> None:
    scheduler = REGISTRY[name]
    rng = np.random.default_rng(1)
    others_differ = dict.fromkeys(NAMES, False)
    for _ in range(80):
        view = random_view(rng)
        own = scheduler.levels(view)
        np.testing.assert_array_equal(own, by_its_rule(scheduler, view))
        for other in REGISTRY.values():
            if other.name not in NAMES:
                continue
            theirs = other.levels(view)
            others_differ[other.name] |= bool((theirs != own).any())
    # No number is another's: the views tell every two rules apart.
    assert not others_differ.pop(name)
    assert all(others_differ.values())


@pytest.mark.parametrize("name", ELASTIC_ORDERS)
def test_an_elastic_order_is_the_index_with_the_ranks_of_its_order(name: str) -> None:
    """Restated: with the keys as work, on jobs that all need the same, the index itself."""
    elastic, rigid = REGISTRY[name], REGISTRY[name.removeprefix("elastic_")]
    index = REGISTRY["elastic_index"].with_params({"h": 0.0, "g": 0.0, "b": 0.0})
    rng = np.random.default_rng(2)
    for _ in range(40):
        view = random_view(rng)
        key = np.empty(view.job.size)
        assert rigid.rule is not None
        rigid.rule(view, rigid.param_array, key)
        place = np.empty(view.job.size)
        place[np.lexsort((view.job, key))] = np.arange(1.0, view.job.size + 1)
        # The index asks for estimated seconds on a single GPU.
        seconds = 1e6 * place * view.rates[view.profile, 1] / view.sizes[view.profile, 1]
        ranked = view._replace(est_remaining_s=seconds)
        # What changes with restart costs and remaining times apart.
        free = elastic.with_params({"h": 0.0, "g": 0.0, "b": 0.0})
        np.testing.assert_array_equal(free.levels(view), index.levels(ranked))


@pytest.mark.parametrize("name", NAMES + ELASTIC_ORDERS)
def test_each_says_what_it_does_and_where_it_is_from(name: str) -> None:
    text = REGISTRY[name].rule.__doc__ or ""
    assert REGISTRY[name].summary
    assert "Source:" in text or name == "random"


def test_parameters_by_name() -> None:
    scheduler = get_scheduler("elastic_index:g=7, p=0.25")
    assert scheduler.params == {"p": 0.25, "h": 0.5, "g": 7.0, "b": 4.0, "trust": 0.0}
    np.testing.assert_array_equal(scheduler.param_array, [0.25, 0.5, 7.0, 4.0, 0.0])
    assert get_scheduler("fcfs").param_array.size > 0
    assert REGISTRY["elastic_index"].params["g"] == 42.0  # the registry's own is untouched


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("sjff", ("sjff", "sjf", "elastic_index")),
        ("", ("unknown scheduler", "fcfs")),
        ("las:quantum=3", ("las", "quantum", "quantum_gpu_s")),
        ("fcfs:x=3", ("fcfs", "'x'", "none")),
        ("las:quantum_gpu_s=soon", ("quantum_gpu_s=soon", "number")),
        ("las:quantum_gpu_s", ("quantum_gpu_s", "number")),
    ],
)
def test_bad_names_and_parameters(name: str, words: tuple[str, ...]) -> None:
    with pytest.raises(UserError) as error:
        get_scheduler(name)
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "las:quantum_gpu_s=nan",
        "las:quantum_gpu_s=0",
        "elastic_index:p=1",
        "elastic_index:p=inf",
        "elastic_index:b=-1",
        "round_robin:slice_s=-1",
        "random:seed=1e300",
        "random:seed=0.5",
        "hesrpt:slowdown=0.5",
        "hesrpt:slowdown=-1",
        "sia:fairness_power=0",
        "elastic_index:trust=1.001",
    ],
)
def test_parameters_out_of_range(text: str) -> None:
    with pytest.raises(UserError, match=text.partition(":")[2].partition("=")[0] + "=.* must be"):
        get_scheduler(text)


def test_every_parameter_has_a_range_that_holds_its_default() -> None:
    for scheduler in REGISTRY.values():
        assert scheduler.with_params(scheduler.params) == scheduler


@pytest.mark.parametrize("name", NAMES + ELASTIC_ORDERS)
def test_a_rule_leaves_its_view_and_its_parameters_as_they_are(name: str) -> None:
    scheduler = REGISTRY[name]
    rng, params = np.random.default_rng(4), dict(scheduler.params)
    for _ in range(20):
        view = random_view(rng)
        kept = {field: np.copy(getattr(view, field)) for field in view._fields}
        first = scheduler.levels(view)
        for field, value in kept.items():
            np.testing.assert_array_equal(getattr(view, field), value, err_msg=field)
        # And so the answer is the same when it is asked again.
        np.testing.assert_array_equal(scheduler.levels(view), first)
    assert scheduler.params == params


def test_a_scorer_that_has_decided_is_the_same_scorer() -> None:
    """Its tally is scratch of each run: the array that a run was given, never the scheduler's."""
    learned = make_scorer(REGISTRY["elastic_index"].params, initial_weights(0).tolist())
    rng, before = np.random.default_rng(5), learned.param_array
    for _ in range(5):
        learned.levels(random_view(rng))
    np.testing.assert_array_equal(learned.param_array, before)


def test_parameters_are_declared_with_their_rule() -> None:
    for scheduler in REGISTRY.values():
        assert list(scheduler.params) == list(scheduler.takes)
        for name, param in scheduler.takes.items():
            assert param.legal.holds(scheduler.params[name]) and not param.legal.holds(np.nan)
            if param.search is not None:
                drawn = [param.search.draw(np.random.default_rng(seed)) for seed in range(50)]
                assert all(param.legal.holds(value) for value in drawn)


@part
def newest_first(v: ClusterView, params: Floats1, key: Floats1) -> None:
    """The job that arrived last goes first, `params[0]` jobs as if they had never come."""
    key[:] = -v.arrival_s
    key[: int(params[0])] = np.inf


def test_a_rule_of_ones_own_needs_no_change_here() -> None:
    """A compiled rule with a parameter of a name that nobody has heard of."""
    mine = Scheduler(
        "mine", newest_first, EVERYBODY, takes={"skipped": Param(1.0, NOT_NEGATIVE)}
    )  # fmt: skip
    assert mine.preemptive and mine.is_order and mine.kind == "order"
    assert mine.with_params({"skipped": 2.0}).params == {"skipped": 2.0}
    with pytest.raises(UserError, match="skipped=-1 must be a number >= 0"):
        mine.with_params({"skipped": -1.0})
    rng = np.random.default_rng(6)
    for _ in range(20):
        view = random_view(rng)
        key = -view.arrival_s
        key[:1] = np.inf
        target = np.minimum(view.level, view.limit_level)
        serve_all(view.with_own_scratch(), key, target)
        np.testing.assert_array_equal(mine.levels(view), target)


def test_a_rule_with_other_arguments_is_refused() -> None:
    orders, sizes = list(ORDERS.parts), list(SIZES.parts)
    with pytest.raises(TypeError, match="newest_first has the signature"):
        assert Scheduler("mine", newest_first).number
    assert (ORDERS.parts[: len(orders)], SIZES.parts) == (orders, sizes)
