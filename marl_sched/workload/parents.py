"""Which jobs wait for which: the dependencies of a trace as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Parents(NamedTuple):
    """Parents of J jobs in compressed rows; E edges, no cycle.

    Job j may start when jobs `indices[indptr[j] : indptr[j + 1]]` have ended.
    """

    indptr: np.ndarray  # (J + 1,) int64, non-decreasing from 0 to E
    indices: np.ndarray  # (E,) int64 in [0, J), ascending within a row

    @classmethod
    def none(cls, jobs: int) -> Parents:
        """Nobody waits; takes no memory."""
        zero = np.zeros(1, dtype=np.int64)
        return cls(np.broadcast_to(zero, (jobs + 1,)), np.empty(0, dtype=np.int64))

    @classmethod
    def from_edges(cls, child: np.ndarray, parent: np.ndarray, jobs: int) -> Parents:
        """Of pairs (E,) int64 in any order, repeated ones counted once."""
        if not len(child):
            return cls.none(jobs)
        pairs = np.unique(np.stack([child, parent], axis=1).astype(np.int64), axis=0)
        indptr = np.zeros(jobs + 1, dtype=np.int64)
        np.cumsum(np.bincount(pairs[:, 0], minlength=jobs), out=indptr[1:])
        return cls(indptr, np.ascontiguousarray(pairs[:, 1]))

    @property
    def child(self) -> np.ndarray:
        """(E,) int64, the job that waits, in the order of `indices`."""
        return np.repeat(np.arange(len(self.indptr) - 1), np.diff(self.indptr))

    def of(self, job: int) -> np.ndarray:
        """Parents of one job."""
        return self.indices[self.indptr[job] : self.indptr[job + 1]]

    def take(self, pick: np.ndarray) -> Parents:
        """For the jobs of `pick`, distinct indices; a dependency on another job counts as met."""
        if not len(self.indices):
            return Parents.none(len(pick))
        place = np.full(len(self.indptr) - 1, -1, dtype=np.int64)
        place[pick] = np.arange(len(pick))
        child, parent = place[self.child], place[self.indices]
        both = (child >= 0) & (parent >= 0)
        return Parents.from_edges(child[both], parent[both], len(pick))

    @classmethod
    def join(cls, parts: Sequence[Parents]) -> Parents:
        """Of several lots of jobs, one after the other, that do not wait for each other."""
        counts = [len(part.indptr) - 1 for part in parts]
        firsts = np.concatenate([[0], np.cumsum(counts)])
        edges = [
            (part.child + first, part.indices + first)
            for part, first in zip(parts, firsts.tolist(), strict=False)
            if len(part.indices)
        ]
        if not edges:
            return cls.none(int(firsts[-1]))
        child, parent = (np.concatenate(side) for side in zip(*edges, strict=True))
        return cls.from_edges(child, parent, int(firsts[-1]))

    def descendants(self, of: np.ndarray) -> np.ndarray:
        """(J,) bool, the jobs of the mask `of` (J,) and all that wait for one of them."""
        found = of.copy()
        if not len(self.indices):
            return found
        # From job to job, so that a chain costs its length and not its square.
        waits_on = self.children()
        todo = np.flatnonzero(of).tolist()
        while todo:
            for child in waits_on.of(todo.pop()).tolist():
                if not found[child]:
                    found[child] = True
                    todo.append(child)
        return found

    def children(self) -> Parents:
        """The same edges the other way round: of each job those that wait for it."""
        return Parents.from_edges(self.indices, self.child, len(self.indptr) - 1)

    def in_cycles(self) -> np.ndarray:
        """Jobs on a cycle, or between two; ascending, empty where the dependencies are sound."""
        left = np.ones(len(self.indptr) - 1, dtype=bool)
        for edges in (self, self.children()):
            left &= ~edges._peeled()
        return np.flatnonzero(left)

    def cycle_from(self, job: int) -> list[int]:
        """A cycle reached from a job of `in_cycles` along its parents: [a, b, .., a]."""
        stuck = set(self.in_cycles().tolist())
        path: list[int] = []
        seen: dict[int, int] = {}
        while job not in seen:
            seen[job] = len(path)
            path.append(job)
            job = next(parent for parent in self.of(job).tolist() if parent in stuck)
        return [*path[seen[job] :], job]

    def _peeled(self) -> np.ndarray:
        """(J,) bool, True for jobs that can end in some order, parents first."""
        missing = np.diff(self.indptr)
        done = missing == 0
        children = self.children()
        todo = np.flatnonzero(done & (np.diff(children.indptr) > 0)).tolist()
        count = missing.tolist()
        while todo:
            for child in children.of(todo.pop()).tolist():
                count[child] -= 1
                if count[child] == 0:
                    done[child] = True
                    todo.append(child)
        return np.asarray(done)
