"""R5: the closed form, its event-by-event run, and the whole-GPU rule against brute force."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marl_sched.errors import UserError
from marl_sched.reproduce.hesrpt import (
    brute_force,
    index_allocation,
    index_worths,
    optimum,
    play_divisible,
    play_whole,
    read_work,
    run,
)

SEEDS = st.integers(0, 2**32 - 1)


def written_out(work: np.ndarray, weight: np.ndarray, num_gpus: float, p: float):
    """Allocation and cost straight from the formulas of the module's docstring."""
    order = np.argsort(-work, kind="stable")
    z = np.concatenate([[0.0], np.cumsum(weight[order])])
    c = 1 / (1 - p)
    theta = np.empty(work.size)
    theta[order] = num_gpus * np.diff((z / z[-1]) ** c)
    return theta, num_gpus**-p * (work[order] * np.diff(z**c) ** (1 / c)).sum()


def random_jobs(seed: int, most: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    work = rng.lognormal(4, rng.choice([0.01, 0.5, 2.0]), int(rng.integers(1, most + 1)))
    return np.ceil(work) if rng.random() < 0.3 else work  # equal sizes happen


def concave_speed(seed: int, num_gpus: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    steps = np.sort(rng.uniform(0, 1, num_gpus))[::-1]
    steps = steps if rng.random() < 0.5 else np.floor(4 * steps) + (steps == steps[0])
    return np.concatenate([[0.0], np.cumsum(steps)])


def test_two_jobs_by_hand() -> None:
    # p = 1/2, c = 2, N = 4, x = (9, 4): shares 4 [1/4, 1 - 1/4] = (1, 3); speeds 1 and 3^.5.
    # The second ends at 4 / 3^.5; the first then has 9 - 4 / 3^.5 left at speed 2. Sum:
    # 8 / 3^.5 + (9 - 4 / 3^.5) / 2 = 4.5 + 6 / 3^.5 = (9 + 4 * 3^.5) / 2.
    work, weight = np.array([9.0, 4.0]), np.ones(2)
    theta, total = optimum(work, weight, 4.0, 0.5)
    np.testing.assert_allclose(theta, [1, 3])
    assert total == pytest.approx((9 + 4 * 3**0.5) / 2, rel=1e-14)
    ends = play_divisible(work, weight, 4.0, 0.5)
    np.testing.assert_allclose(ends, [4 / 3**0.5 + (9 - 4 / 3**0.5) / 2, 4 / 3**0.5])


@settings(max_examples=100)
@given(SEEDS, st.floats(0.02, 0.9), st.booleans(), st.sampled_from([1.0, 7.0, 64.0, 1000.0]))
def test_closed_form_is_what_its_shares_cost(seed: int, p: float, slow: bool, gpus: float) -> None:
    work = random_jobs(seed, 30)
    weight = 1 / work if slow else np.ones_like(work)
    theta, total = optimum(work, weight, gpus, p)
    by_formula, cost = written_out(work, weight, gpus, p)
    np.testing.assert_allclose(theta, by_formula, rtol=1e-9, atol=1e-12 * gpus)
    assert total == pytest.approx(cost, rel=1e-9)
    assert float((weight * play_divisible(work, weight, gpus, p)).sum()) == pytest.approx(
        total, rel=1e-9
    )


@settings(max_examples=60)
@given(SEEDS, st.floats(0.05, 0.95))
def test_no_other_shares_do_better(seed: int, p: float) -> None:
    # From any allocation until the first job ends, and the optimum after it.
    rng = np.random.default_rng(seed)
    work = random_jobs(seed, 6)
    for weight in (np.ones_like(work), 1 / work):
        _, total = optimum(work, weight, 8.0, p)
        rate = (8.0 * rng.dirichlet(np.full(work.size, 0.7))) ** p
        with np.errstate(divide="ignore"):
            seconds = (work / rate).min()
        rest = work - rate * seconds
        stays = rest > 1e-12 * work
        after = optimum(rest[stays], weight[stays], 8.0, p)[1] if stays.any() else 0.0
        assert weight.sum() * seconds + after >= total * (1 - 1e-12)


@settings(max_examples=60)
@given(SEEDS, st.integers(1, 6), st.booleans())
def test_the_whole_gpu_rule_is_optimal_for_any_concave_speed(
    seed: int, num_gpus: int, slow: bool
) -> None:
    work, speed = random_jobs(seed, 4), concave_speed(seed, num_gpus)
    weight = 1 / work if slow else np.ones_like(work)
    worth = index_worths(work, weight, speed)
    best = brute_force(work, weight, speed)
    assert float((worth * work).sum()) == pytest.approx(best, rel=1e-12)
    assert float((weight * play_whole(work, weight, speed)).sum()) == pytest.approx(best, rel=1e-12)


def test_the_whole_gpu_rule_is_no_optimum_for_weights_against_the_sizes() -> None:
    # One GPU: the heavy job first, 10 * 10 + 1 * 11, though it is the longer; the rule's order
    # is by work alone: 1 * 1 + 10 * 11.
    work, weight, speed = np.array([10.0, 1.0]), np.array([10.0, 1.0]), np.array([0.0, 1.0])
    assert brute_force(work, weight, speed) == pytest.approx(111)
    assert (weight * play_whole(work, weight, speed)).sum() == pytest.approx(111)
    weight = np.array([100.0, 1.0])
    assert brute_force(work, weight, speed) == pytest.approx(1011)
    assert (weight * play_whole(work, weight, speed)).sum() == pytest.approx(1101)


def test_whole_gpus_approach_divisible_ones() -> None:
    # 4 jobs, p = 0.5: shares N (2i - 1) / 16, whole for N = 16 k: there both rules agree.
    work = np.array([40.0, 30.0, 20.0, 10.0])
    speed = np.sqrt(np.arange(161.0))
    worth = index_worths(work, np.ones(4), speed)
    assert index_allocation(worth, speed).tolist() == [10, 30, 50, 70]
    _, total = optimum(work, np.ones(4), 160.0, 0.5)
    assert (worth * work).sum() == pytest.approx(total, rel=2e-3)


def test_brute_force_by_hand() -> None:
    # Two jobs of 2 s on 2 GPUs. Linear speed: one after the other, ends 1 and 2. No speedup
    # beyond one GPU: side by side, both end at 2.
    work, one = np.array([2.0, 2.0]), np.ones(2)
    assert brute_force(work, one, np.array([0.0, 1.0, 2.0])) == pytest.approx(3)
    assert brute_force(work, one, np.array([0.0, 1.0, 1.0])) == pytest.approx(4)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_run_reads_own_csv(tmp_path: Path) -> None:
    jobs = write(
        tmp_path / "jobs.csv", "arrival_s,duration_s,num_gpus\n0,9,1\n0,2,4\n0,100,1\n0,3,2\n"
    )
    work = read_work(jobs, 0.5)
    np.testing.assert_allclose(work, [9, 4, 100, 3 * 2**0.5])
    for weights, weight in (("none", np.ones(4)), ("slowdown", 1 / work)):
        result = run(jobs, 6, 0.5, weights)
        theta, cost = written_out(work, weight, 6.0, 0.5)
        np.testing.assert_allclose(result["theta"], theta)
        assert result["closed_form"] == pytest.approx(cost, rel=1e-12)
        assert result["relative_difference"] < 1e-9
        whole = result["whole_gpus"]
        assert sum(whole["allocation"]) == 6
        assert whole["relative_difference"] < 1e-9
        assert whole["value"] == pytest.approx(whole["brute_force"], rel=1e-9)
        assert whole["value"] >= result["closed_form"]


def test_run_on_a_thousand_jobs_of_a_size_column(tmp_path: Path) -> None:
    sizes = np.random.default_rng(5).lognormal(6, 2, 1000)
    jobs = write(tmp_path / "sizes.csv", "size\n" + "\n".join(map(repr, sizes.tolist())) + "\n")
    for p in (0.1, 0.5, 0.99):
        result = run(jobs, 64, p)
        assert result["relative_difference"] < 1e-9
        assert result["whole_gpus"]["relative_difference"] < 1e-9
        assert result["whole_gpus"]["brute_force"] is None
    other = write(tmp_path / "other.csv", "name,seconds\na,3\nb,4\n")
    np.testing.assert_array_equal(read_work(other, 0.5, "seconds"), [3, 4])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("arrival_s,duration_s,num_gpus\n0,1,1\n5,1,1\n", ("row 3", "arrival_s", "5 is not 0")),
        ("size\n1\n-2\n", ("row 3", "size", "not positive")),
        ("size\n", ("no rows",)),
        ("duration_s\n1\n", ("no column 'num_gpus'",)),
    ],
)
def test_bad_files(tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    with pytest.raises(UserError) as error:
        run(write(tmp_path / "jobs.csv", text), 4, 0.5)
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"p": 1.0}, "p=1"), ({"num_gpus": 0}, "num_gpus"), ({"weights": "w"}, "none, slowdown")],
)
def test_bad_settings(tmp_path: Path, change: dict[str, object], words: str) -> None:
    jobs = write(tmp_path / "jobs.csv", "size\n1\n")
    with pytest.raises(UserError, match=words):
        run(jobs, **{"num_gpus": 4, "p": 0.5, **change})  # type: ignore[arg-type]
