"""The kernels' cache follows their sources."""

import shutil
from pathlib import Path

import pytest

from marl_sched.compiled import jit
from marl_sched.sim.kernels import advance


def test_a_change_in_any_kernel_source_moves_the_cache(tmp_path: Path) -> None:
    copy = tmp_path / "marl_sched"
    shutil.copytree(jit.PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    before = jit.source_digest(copy)
    assert before == jit.source_digest()
    for name in (
        "sim/kernels.py",
        "schedulers/mechanisms/filling.py",
        "envs/observe.py",
        "types.py",
    ):
        with open(copy / name, "a", encoding="utf-8") as file:
            file.write("\n# changed\n")
        after = jit.source_digest(copy)
        assert after != before
        before = after


def test_kernels_are_cached_there() -> None:
    path = advance._cache._cache_path  # type: ignore[attr-defined]
    assert Path(path).is_relative_to(jit.cache_folder())


def test_copies_of_the_package_share_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = jit.PACKAGE / "sim" / "kernels.py"
    name = jit.PackageLocator.get_suitable_cache_subpath(str(original))
    assert name == "marl_sched_sim"
    monkeypatch.setattr(jit, "PACKAGE", tmp_path / "marl_sched")
    copied = tmp_path / "marl_sched" / "sim" / "kernels.py"
    assert jit.PackageLocator.get_suitable_cache_subpath(str(copied)) == name
    elsewhere = jit.PackageLocator.get_suitable_cache_subpath(str(original))
    assert elsewhere.startswith("sim_") and elsewhere != name
