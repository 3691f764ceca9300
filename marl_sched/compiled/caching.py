"""numba's cache of compiled functions, with files that are either whole or not there.

A file that a full disk or a loss of power left empty or cut is an error to numba. Here the
function is compiled anew, and what its machine code was is never half run.
"""

from __future__ import annotations

import contextlib
import hashlib
import pickle
from pathlib import Path
from typing import Any

from numba.core.caching import FunctionCache, IndexDataCacheFile

_DIGEST = hashlib.sha256().digest_size


class _SealedFile(IndexDataCacheFile):
    """Index and data of a function, each behind its own digest."""

    def _load_index(self) -> dict[Any, Any]:
        found = _unsealed(Path(self._index_path))
        if found is None or found[0] != self._source_stamp:
            return {}
        overloads: dict[Any, Any] = found[1]
        return overloads

    def _save_index(self, overloads: dict[Any, Any]) -> None:
        self._seal(self._index_path, (self._source_stamp, overloads))

    def _load_data(self, name: str) -> Any:
        return _unsealed(Path(self._data_path(name)))

    def _save_data(self, name: str, data: Any) -> None:
        self._seal(self._data_path(name), data)

    def _seal(self, path: str, value: Any) -> None:
        data = self._dump(value)
        with self._open_for_write(path) as file:
            file.write(hashlib.sha256(data).digest() + data)


def _unsealed(path: Path) -> Any:
    """What `_seal` wrote; None where that is not there, or no longer."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    if hashlib.sha256(data[_DIGEST:]).digest() != data[:_DIGEST]:
        return None
    return pickle.loads(data[_DIGEST:])


class KernelCache(FunctionCache):
    """The cache of one function; without room on the disk it keeps nothing, and says nothing."""

    def __init__(self, function: Any) -> None:
        super().__init__(function)
        self._cache_file = _SealedFile(
            self._cache_path, self._impl.filename_base, self._impl.locator.get_source_stamp()
        )

    def save_overload(self, sig: Any, data: Any) -> None:
        with contextlib.suppress(OSError):
            super().save_overload(sig, data)
