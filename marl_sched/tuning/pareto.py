"""What is given up for what: the non-dominated set, hypervolume, the best for a preference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from marl_sched.errors import UserError
from marl_sched.terms import TERMS
from marl_sched.tuning.tradeoff import Axis, costs_of, hypervolume, non_dominated

AXES = {
    term.name: Axis(term.metric, term.label, term.scale, term.higher_is_better) for term in TERMS
}
"""Term of the reward -> the raw metric that stands for it."""

REFERENCE = 1.5
"""Costs from which on nothing is gained, in those of the base schedule."""


def relative_costs(
    rows: Sequence[Mapping[str, Any]],
    base: Mapping[str, Any],
    terms: Sequence[str],
    part: str = "",
) -> tuple[np.ndarray, list[str]]:
    """Costs of every row over the base schedule's.

    The useful share of GPU time counts by what is not useful.

    Args:
        part: before a metric's name: `valid_` for costs on validation.

    Returns:
        (N, M) float64, lower is better, and the M terms: those in which the base pays anything.
    """
    columns = {}
    for term in terms:
        axis = AXES[term]
        values = np.array([row[part + axis.metric] for row in [*rows, base]], dtype=float)
        values = 1.0 - values if axis.higher_is_better else values
        if values[-1] > 0:
            columns[term] = values[:-1] / values[-1]
    return np.column_stack([*columns.values(), np.empty((len(rows), 0))]), list(columns)


def mark_front(rows: list[dict[str, Any]], terms: Sequence[str]) -> None:
    """Add `non_dominated` to every row; failed trials are not."""
    alive = [row for row in rows if row["state"] != "failed"]
    kept = non_dominated(costs_of(alive, [AXES[term] for term in terms]))
    for row in rows:
        row["non_dominated"] = False
    for row, one in zip(alive, kept, strict=True):
        row["non_dominated"] = bool(one)


def hypervolumes(
    rows: Sequence[Mapping[str, Any]],
    base: Mapping[str, Any],
    terms: Sequence[str],
    search: str = "grid",
) -> list[dict[str, Any]]:
    """Of each set of schedulers and each seed: hypervolume, in that of the base schedule alone.

    Returns:
        `{set, seed, points, hypervolume}`; sets are `search` (of the trained ones),
        `conditioned` (one network at the same weights), and `classic`, which has no seed.
    """
    found = []
    groups: dict[tuple[str, Any], list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["state"] != "failed":
            groups.setdefault((row["kind"], row.get("seed")), []).append(row)
    for (kind, seed), members in groups.items():
        costs, used = relative_costs(members, base, terms)
        alone = (REFERENCE - 1.0) ** len(used)
        volume = hypervolume(costs, np.full(len(used), REFERENCE)) / alone
        name = search if kind == "trained" else kind
        found.append({"set": name, "seed": seed, "points": len(members), "hypervolume": volume})
    return found


def check_preference(preference: Mapping[str, float], terms: Sequence[str]) -> None:
    """Raise a `UserError` for a preference that nothing here is measured by."""
    missing = [term for term, weight in preference.items() if weight > 0 and term not in terms]
    if missing:
        raise UserError(
            f"--prefer: this sweep does not weigh {', '.join(missing)}; it weighs "
            f"{', '.join(terms)}"
        )


def preferred(
    rows: Sequence[Mapping[str, Any]],
    base: Mapping[str, Any],
    preference: Mapping[str, float],
    terms: Sequence[str],
) -> list[tuple[float, Mapping[str, Any]]]:
    """(score, row), best first: sum of preference x cost over the base schedule's, on validation.

    What a reward of these weights would have. Failed trials take no part, nor do costs in which
    the base pays nothing.

    Raises:
        UserError: for a preference that nothing here is measured by.
    """
    check_preference(preference, terms)
    alive = [row for row in rows if row["state"] != "failed"]
    costs, used = relative_costs(alive, base, list(preference), "valid_")
    scores = costs @ np.array([preference[term] for term in used])
    order = np.argsort(scores, kind="stable")
    return [(float(scores[i]), alive[i]) for i in order]
