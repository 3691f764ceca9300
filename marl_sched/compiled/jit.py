"""Compiled kernels, cached on disk for exactly the sources they were compiled from.

numba's own cache looks only at the file that a function is written in. A kernel that calls one
of another file would go on running that one's old code after an update. Ours live in a
folder named after a digest of all kernel sources, so that any change compiles anew.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import llvmlite.binding as llvm
import numba
from numba.core.caching import UserProvidedCacheLocator

from marl_sched.compiled.linking import Kernel, Part
from marl_sched.folders import kernel_folder

Function = TypeVar("Function", bound=Callable[..., Any])

PACKAGE = Path(__file__).parents[1]
SOURCES = (
    "compiled",
    "types.py",
    "terms.py",
    "allocation",
    "sim",
    "schedulers",
    "envs",
    "models/draw.py",
    "models/forward.py",
    "reproduce/goodput.py",
    "reproduce/goodput_fit.py",
    "reproduce/pollux_search.py",
)
"""Where compiled code is written, relative to the package."""


def source_digest(package: Path = PACKAGE) -> str:
    """Twelve hexadecimal digits that change with any source of a kernel, and with the machine."""
    digest = hashlib.sha256()
    host = (sys.version, numba.__version__, llvm.get_host_cpu_name())
    digest.update(repr(host).encode())
    for name in SOURCES:
        path = package / name
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(str(file.relative_to(package)).encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


@lru_cache(maxsize=1)
def cache_folder() -> Path:
    """Folder of the compiled kernels: in the user's own cache, or where `NUMBA_CACHE_DIR` says.

    Raises:
        UserError: when others own it or may write to it.
    """
    return kernel_folder(f"kernels-{source_digest()}")


class PackageLocator(UserProvidedCacheLocator):
    """Names a kernel's file by its place in the package, not on the machine.

    Copies of the same sources, such as the one that each `ray job submit` uploads, then share what
    is compiled.
    """

    @classmethod
    def get_suitable_cache_subpath(cls, py_file: str) -> str:
        folder = Path(py_file).resolve().parent
        if not folder.is_relative_to(PACKAGE.resolve()):
            return str(super().get_suitable_cache_subpath(py_file))
        return "_".join(folder.relative_to(PACKAGE.resolve().parent).parts)


_LOCATOR = f"{PackageLocator.__module__}.{PackageLocator.__qualname__}"


def kernel(function: Function) -> Function:
    """A compiled function that those who call it take in; cached where Python calls it."""
    return _decorated(Kernel, function)


def part(function: Function) -> Function:
    """A compiled function on its own, for whatever is large, rarely used, or called by many.

    Its annotations say its types; see `linking`.
    """
    return _decorated(Part, function)


def _decorated(kind: Callable[[Function], Any], function: Function) -> Function:
    config = numba.config
    if config.DISABLE_JIT:  # for a debugger, see docs/compiled.md
        return function
    before = config.CACHE_DIR, config.CACHE_LOCATOR_CLASSES
    # numba fixes a function's cache folder when it is decorated.
    config.CACHE_DIR, config.CACHE_LOCATOR_CLASSES = str(cache_folder()), _LOCATOR
    try:
        compiled: Function = kind(function)
    finally:
        config.CACHE_DIR, config.CACHE_LOCATOR_CLASSES = before
    return compiled
