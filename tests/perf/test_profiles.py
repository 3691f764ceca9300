"""Profiles: allowed sizes, normalised and monotone rates."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marl_sched.config import SyntheticConfig, WorkloadConfig
from marl_sched.errors import UserError
from marl_sched.perf.catalogue import Catalogue
from marl_sched.perf.profiles import allowed_sizes, build_profiles
from marl_sched.types import Cluster
from marl_sched.workload import load_workload
from marl_sched.workload.jobs import Workload

CATALOGUE = Catalogue.load()


def made(jobs: list[tuple[str, int, int, int, bool]]) -> Workload:
    """A workload of (model, request, min, max, elastic)."""
    count = len(jobs)
    integers = np.array([job[1:4] for job in jobs], dtype=np.int64).reshape(count, 3)
    return Workload(
        job_id=np.array([str(i) for i in range(count)], dtype=object),
        arrival_s=np.arange(count, dtype=float),
        duration_s=np.full(count, 100.0),
        num_gpus=integers[:, 0],
        model=np.array([CATALOGUE.models.index(job[0]) for job in jobs], dtype=np.int64),
        models=CATALOGUE.models,
        elastic=np.array([job[4] for job in jobs], dtype=bool),
        min_gpus=integers[:, 1],
        max_gpus=integers[:, 2],
        demand=np.tile([1.0, 0.0, 0.0, 0.0], (count, 1)),
        priority=np.zeros(count),
        tenant=np.zeros(count, dtype=np.int64),
        tenants=("",),
        deadline_s=np.full(count, np.inf),
    )


def test_allowed_sizes():
    assert allowed_sizes(4, 1, 16, True).tolist() == [0, 1, 2, 4, 8, 16]
    assert allowed_sizes(6, 3, 12, True).tolist() == [0, 4, 6, 8]
    assert allowed_sizes(6, 6, 6, False).tolist() == [0, 6]


def test_a_rigid_job_has_its_request_alone_at_rate_one():
    table = build_profiles(made([("resnet50", 6, 6, 6, False)]), Cluster.parse("4x8"))
    assert table.sizes.tolist() == [[0, 6]]
    assert table.rates[0, 0, :, 0].tolist() == [0.0, 1.0]
    assert table.num_levels.tolist() == [1]
    assert table.request_level.tolist() == [1]


def test_equal_kinds_share_a_profile_and_rows_are_padded():
    workload = made(
        [
            ("resnet50", 2, 1, 8, True),
            ("resnet50", 2, 2, 2, False),
            ("resnet50", 2, 1, 8, True),
        ]
    )
    table = build_profiles(workload, Cluster.parse("4x8"))
    assert len(table.sizes) == 2
    first, rigid, again = table.job_profile
    assert first == again != rigid
    assert table.sizes[first].tolist() == [0, 1, 2, 4, 8]
    assert table.sizes[rigid].tolist() == [0, 2, 2, 2, 2]
    assert table.num_levels[[first, rigid]].tolist() == [4, 1]
    assert table.restart_s.tolist() == [[30.0] * 5] * 2


def test_rates_are_ratios_of_goodput():
    table = build_profiles(made([("bert", 2, 1, 16, True)]), Cluster.parse("4x8"))
    packed = [float(CATALOGUE.goodput("bert", "T4", k, 1)) for k in (1, 2, 4, 8)]
    spanning = [float(CATALOGUE.goodput("bert", "T4", k, 2)) for k in (1, 2, 4, 8, 16)]
    assert table.rates[0, 0, 1:5, 0] == pytest.approx(np.array(packed) / packed[1])
    assert table.rates[0, 0, 1:, 1] == pytest.approx(np.array(spanning) / packed[1])
    # 16 GPUs exceed every node: only spanning is possible.
    assert table.rates[0, 0, 5, 0] == table.rates[0, 0, 5, 1]


def test_normalised_on_the_first_gpu_type():
    workload = made([("resnet50", 4, 1, 8, True)])
    table = build_profiles(workload, Cluster.parse("2x4:T4+2x8:A100"))
    request = table.request_level[0]
    assert table.rates[0, 0, request, 0] == pytest.approx(1.0)
    assert table.rates[0, 1, request, 0] > 1.5
    share = np.array([8, 16]) / 24
    assert table.nominal_rates == pytest.approx(np.einsum("t,ptl->pl", share, table.rates[..., 0]))


def test_sizes_stop_at_the_peak_and_at_the_largest_pool():
    ncf = build_profiles(made([("ncf", 1, 1, 64, True)]), Cluster.parse("8x8"))
    assert ncf.sizes[0].tolist() == [0, 1, 2, 4]
    pools = build_profiles(made([("resnet50", 1, 1, 64, True)]), Cluster.parse("2x4:T4+2x8:A100"))
    assert pools.sizes[0].tolist() == [0, 1, 2, 4, 8, 16]


def test_a_request_beyond_the_peak_stays_allowed_at_no_loss():
    table = build_profiles(made([("ncf", 32, 1, 64, True)]), Cluster.parse("8x8"))
    assert table.sizes[0].tolist() == [0, 1, 2, 4, 8, 16, 32]
    assert table.rates[0, 0, 3:, 0] == pytest.approx(1.0)


def test_restart_scale_and_empty_workload():
    workload = made([("vgg16", 1, 1, 4, True)])
    plain = build_profiles(workload, Cluster.parse("1x8"))
    # Muri measured 7, 7 and 8 s on 1, 2 and 4 GPUs; a line through those up to 32.
    assert plain.restart_s[0, 1:4] == pytest.approx([7.0, 7.0, 8.0], abs=0.6)
    assert plain.restart_s[0, 3] > plain.restart_s[0, 2] > plain.restart_s[0, 1]
    scaled = build_profiles(workload, Cluster.parse("1x8"), restart_scale=2.5)
    assert scaled.restart_s == pytest.approx(2.5 * plain.restart_s)
    empty = build_profiles(workload.slice(0, 0), Cluster.parse("1x8"))
    assert empty.sizes.shape == (0, 2)
    assert empty.rates.shape == (0, 1, 2, 2)


def test_unknown_gpu_type_is_named():
    with pytest.raises(UserError, match="GPU type 'H999' is not in the catalogue"):
        build_profiles(made([("gpt2", 1, 1, 4, True)]), Cluster.parse("1x8:H999"))


jobs = st.tuples(
    st.sampled_from(CATALOGUE.models),
    st.integers(1, 24),
    st.integers(1, 24),
    st.integers(0, 48),
    st.booleans(),
).map(lambda job: (job[0], job[1], min(job[1], job[2]), job[1] + job[3], job[4]))


@settings(max_examples=60)
@given(
    st.lists(jobs, min_size=1, max_size=5),
    st.sampled_from(["4x8", "6x4:T4+2x8:A100", "1x64:K80", "32x1:V100", "2x8+8x4:P100"]),
)
def test_invariants(job_list, cluster_text):
    cluster = Cluster.parse(cluster_text)
    workload = made(job_list)
    table = build_profiles(workload, cluster)
    rates, top = table.rates, table.num_levels
    rows = np.arange(len(top))
    assert (table.sizes[:, 0] == 0).all()
    assert (rates[:, :, 0] == 0).all()
    assert (rates[:, :, 1:] > 0).all()
    assert (np.diff(rates, axis=2) >= 0).all()
    assert (rates[..., 0] >= rates[..., 1]).all()
    for p in rows:
        assert (np.diff(table.sizes[p, : top[p] + 1]) > 0).all()
        assert (table.sizes[p, top[p] :] == table.sizes[p, top[p]]).all()
    assert rates[rows, 0, table.request_level, 0] == pytest.approx(1.0)
    mine = table.job_profile
    assert (table.sizes[mine, table.request_level[mine]] == workload.num_gpus).all()
    assert (table.sizes[mine, top[mine]] <= np.maximum(workload.max_gpus, workload.num_gpus)).all()


def test_the_default_workload_has_many_scaling_curves():
    config = WorkloadConfig(synthetic=SyntheticConfig(num_jobs=2000))
    cluster = Cluster.parse("8x8")
    workload = load_workload(config, cluster, seed=0)
    table = build_profiles(workload, cluster)
    growing = table.num_levels > table.request_level
    gain = table.nominal_rates[np.arange(len(growing)), table.num_levels]
    by_job = (gain * growing)[table.job_profile]
    # Of the jobs that can grow, some gain a little and some nearly fourfold.
    low, high = np.percentile(by_job[by_job > 0], [10, 90])
    assert low < 2.0
    assert high > 3.5
    assert dataclasses.is_dataclass(table)
