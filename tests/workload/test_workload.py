"""Workload arithmetic, the assignment rule, the synthetic generator."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marl_sched.config import SyntheticConfig, WorkloadConfig
from marl_sched.errors import UserError
from marl_sched.perf import Catalogue
from marl_sched.types import Cluster, make_node
from marl_sched.workload import Workload, generate, load_workload
from marl_sched.workload.assignment import MODEL_WEIGHTS, request_gain
from marl_sched.workload.synthetic import DAY_S, GPU_SHARES, synthetic_trace

CLUSTER = Cluster.parse("8x8")


def made(jobs: int = 400, seed: int = 0, cluster: Cluster = CLUSTER, **settings) -> Workload:
    config = WorkloadConfig(synthetic=SyntheticConfig(num_jobs=jobs), **settings)
    return load_workload(config, cluster, seed)


def test_offered_load_by_hand():
    workload = made(3)
    # Work 3 jobs x 1 GPU x 100 s over 50 s of arrivals on 4 GPUs: 300 / 200.
    changed = workload.slice(0, 3)
    object.__setattr__(changed, "num_gpus", np.array([1, 1, 1]))
    object.__setattr__(changed, "duration_s", np.array([100.0, 100.0, 100.0]))
    object.__setattr__(changed, "arrival_s", np.array([10.0, 20.0, 60.0]))
    object.__setattr__(changed, "deadline_s", np.array([110.0, np.inf, 80.0]))
    assert changed.offered_load(4) == pytest.approx(1.5)
    halved = changed.with_load(0.75, 4)
    assert halved.arrival_s.tolist() == [10.0, 30.0, 110.0]
    assert halved.deadline_s.tolist() == [110.0, np.inf, 130.0]
    assert halved.offered_load(4) == pytest.approx(0.75)


def test_burstiness_by_hand():
    workload = made(3).slice(0, 3)
    object.__setattr__(workload, "arrival_s", np.array([10.0, 20.0, 50.0]))
    object.__setattr__(workload, "deadline_s", np.array([110.0, np.inf, 80.0]))
    # Gaps 10 and 30 to the square are 1 : 9 of the same 40 s.
    bursty = workload.with_burstiness(2.0)
    assert bursty.arrival_s.tolist() == pytest.approx([10.0, 14.0, 50.0])
    assert bursty.deadline_s.tolist() == pytest.approx([110.0, np.inf, 80.0])
    assert workload.with_burstiness(1.0).arrival_s.tolist() == [10.0, 20.0, 50.0]
    assert made(1).with_burstiness(2.0).arrival_s.tolist() == [0.0]
    told = made(200, load=0.7, burstiness=1.5)
    assert told.offered_load(64) == pytest.approx(0.7)


def test_only_the_tenants_that_were_named(tmp_path):
    path = tmp_path / "jobs.csv"
    rows = ["0,100,1,a", "5,200,1,b", "9,300,1,a", "11,400,1,c"]
    path.write_text("\n".join(["arrival_s,duration_s,num_gpus,tenant", *rows]) + "\n")

    def durations(*tenants):
        config = WorkloadConfig(trace=str(path), tenants=tenants)
        return load_workload(config, CLUSTER, 0).duration_s.tolist()

    assert durations("b", "c") == [200.0, 400.0]
    assert durations() == [100.0, 200.0, 300.0, 400.0]
    with pytest.raises(UserError, match="no job of tenant 'd'; it has: a, b, c"):
        durations("a", "d")


def test_load_of_simultaneous_jobs_cannot_be_set():
    one = made(1)
    assert one.offered_load(64) == np.inf
    with pytest.raises(UserError, match="all 1 jobs arrive at once"):
        one.with_load(0.5, 64)


def test_a_load_that_no_simulation_gets_through():
    jobs = np.array(["a", "b"]), np.array([0.0, 1.0]), np.array([1e10, 1e10]), np.array([1, 1])
    workload = Workload.rigid("long", *jobs)
    assert workload.with_load(2.0, 1).arrival_s.tolist() == [0.0, 1e10]
    with pytest.raises(UserError, match=r"at an offered load of 1 its jobs arrive over 2.0e\+10 s"):
        workload.with_load(1.0, 1)


@given(jobs=st.integers(1, 60), cut=st.floats(0, 1), second=st.floats(0, 1))
@settings(max_examples=30)
def test_split_is_chronological_and_loses_nothing(jobs, cut, second):
    workload = made(jobs)
    middle = (1 - cut) * second
    parts = workload.split((cut, middle, 1 - cut - middle))
    assert sum(map(len, parts)) == jobs
    together = np.concatenate([part.arrival_s for part in parts])
    assert (together == workload.arrival_s).all()
    assert [len(part.demand) for part in parts] == [len(part) for part in parts]


def test_default_split():
    assert [len(part) for part in made(6000).split((0.6, 0.2, 0.2))] == [3600, 1200, 1200]


def test_estimate_factors_depend_on_seed_and_position_alone():
    workload = made(500)
    factors = workload.estimate_factors(1.0, seed=3)
    assert (workload.slice(0, 100).estimate_factors(1.0, 3) == factors[:100]).all()
    assert not (workload.estimate_factors(1.0, 4) == factors).any()
    assert (workload.estimate_factors(0.0, 3) == 1.0).all()
    assert np.log(factors).std() == pytest.approx(1.0, abs=0.1)


def test_check_fits_names_the_job_and_the_mend():
    workload = made(400)
    workload.check_fits(CLUSTER)
    # 32 GPUs in all, but a gang stays on one type: 16 at most.
    small = Cluster.parse("2x8:T4+2x8:A100")
    first = int(np.flatnonzero(workload.num_gpus > 16)[0])
    with pytest.raises(UserError, match=f"job '{first}' asks for 32 GPUs.*more than 16; give a"):
        workload.check_fits(small)


def test_check_fits_counts_other_resources_by_node():
    workload = made(50).slice(0, 1)
    demand = np.array([[1.0, 5.0, 0.0, 0.0]])
    object.__setattr__(workload, "demand", demand)
    object.__setattr__(workload, "num_gpus", np.array([4]))
    # 12 CPUs hold 2 GPUs' worth on each node.
    nodes = [make_node(f"n{i}", 4, num_cpus=12.0) for i in range(2)]
    workload.check_fits(Cluster(tuple(nodes)))
    with pytest.raises(UserError, match="asks for 4 GPUs with 5 cpu each, .* more than 2;"):
        workload.check_fits(Cluster(tuple(nodes[:1])))


def test_assignment_is_seeded_and_by_position():
    one, again, other = made(seed=1), made(seed=1), made(seed=2)
    assert (one.model == again.model).all()
    assert (one.model != other.model).any()


def test_class_of_gpu_time_decides_the_model():
    workload = made(6000)
    gpu_s = workload.num_gpus * workload.duration_s
    alone = workload.num_gpus == 1
    for name, low, high in (("small", 0, 3600), ("large", 36_000, 360_000)):
        mine = alone & (gpu_s >= low) & (gpu_s < high)
        shares = np.bincount(workload.model[mine], minlength=len(workload.models)) / mine.sum()
        for model, share in zip(workload.models, shares, strict=True):
            assert share == pytest.approx(MODEL_WEIGHTS[name].get(model, 0.0), abs=0.07)


def test_weights_are_distributions_over_the_catalogue():
    for weights in MODEL_WEIGHTS.values():
        assert sum(weights.values()) == pytest.approx(1.0)
        assert set(weights) <= set(Catalogue.load().models)


def test_nobody_asks_for_gpus_that_bring_nothing():
    workload = made(6000)
    for request in (2, 4, 8, 16, 32):
        gain = request_gain(Catalogue.load(), CLUSTER, request)
        used = np.unique(workload.model[workload.num_gpus == request])
        assert (gain[used] >= 1.1).all(), request


def test_elasticity():
    half = made(2000, elastic_fraction=0.5)
    assert half.elastic.mean() == pytest.approx(0.5, abs=0.05)
    rigid = ~half.elastic
    assert (half.min_gpus[rigid] == half.num_gpus[rigid]).all()
    assert (half.max_gpus[rigid] == half.num_gpus[rigid]).all()
    assert (half.min_gpus[~rigid] == 1).all()
    top = np.minimum(4 * half.num_gpus, 64)
    assert (half.max_gpus[~rigid] == top[~rigid]).all()
    assert not made(100, elastic_fraction=0.0).elastic.any()
    assert made(100, elastic_max_factor=1).max_gpus.max() <= 32


@given(
    jobs=st.integers(2, 300),
    load=st.floats(0.05, 3.0),
    gpus=st.integers(1, 200),
    seed=st.integers(0, 99),
    swing=st.floats(0, 1),
    sigma=st.floats(0, 3),
)
@settings(max_examples=40)
def test_synthetic_load_is_exact(jobs, load, gpus, seed, swing, sigma):
    config = SyntheticConfig(num_jobs=jobs, load=load, daily_cycle=swing, sigma=sigma)
    workload = generate(config, gpus, seed)
    assert len(workload) == jobs
    assert workload.offered_load(gpus) == pytest.approx(load)
    assert workload.arrival_s[0] == 0.0
    assert (np.diff(workload.arrival_s) >= 0).all()
    assert (workload.duration_s >= 1.0).all()
    assert workload.duration_s.max() <= config.max_duration_s
    assert workload.num_gpus.max() <= gpus
    assert workload.name == "synthetic"


def test_synthetic_is_seeded():
    config = SyntheticConfig(num_jobs=50)
    one, again = generate(config, 64, 5), generate(config, 64, 5)
    assert (one.arrival_s == again.arrival_s).all()
    assert (one.duration_s != generate(config, 64, 6).duration_s).any()


def test_synthetic_looks_like_philly():
    config = SyntheticConfig(num_jobs=20_000)
    raw = synthetic_trace(config, 64, seed=0)
    assert np.median(raw.duration_s) == pytest.approx(1800, rel=0.05)
    assert np.log(raw.duration_s).std() == pytest.approx(1.6, abs=0.05)
    for gpus, share in GPU_SHARES.items():
        assert (raw.num_gpus == gpus).mean() == pytest.approx(share, abs=0.005)


def test_the_daily_cycle_is_one_of_24_hours():
    raw = synthetic_trace(SyntheticConfig(num_jobs=20_000, daily_cycle=0.8), 64, seed=0)
    days = int(raw.arrival_s[-1] // DAY_S)
    inside = raw.arrival_s[raw.arrival_s < days * DAY_S]
    # The rate is 1 + 0.8 sin: the mean of the sine over arrivals is 0.4.
    assert np.sin(2 * np.pi * inside / DAY_S).mean() == pytest.approx(0.4, abs=0.03)


def test_requests_stay_within_one_gpu_type():
    workload = made(4000, cluster=Cluster.parse("3x4:T4+2x8:A100"))
    assert workload.num_gpus.max() == 16


def test_load_setting_overrides_the_generators():
    assert made(load=0.4).offered_load(64) == pytest.approx(0.4)
    assert made().offered_load(64) == pytest.approx(0.9)
    assert len(made(1, load=0.4)) == 1


def test_job_view():
    workload = made(10)
    job = workload.job(3)
    assert job.job_id == "3"
    assert job.model == workload.models[workload.model[3]]
    assert job.max_gpus == workload.max_gpus[3]
    assert job.deadline_s == float("inf")


def test_import_is_light():
    code = (
        "import sys, marl_sched.workload, marl_sched.perf\n"
        "print([m for m in ('ray', 'torch', 'pandas', 'scipy', 'numba') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
