"""The model card of a trained scorer: every figure from its manifest or from result files."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from marl_sched.config import RewardWeights
from marl_sched.errors import UserError
from marl_sched.evaluation.metrics import fallbacks
from marl_sched.evaluation.statistics import doubt, percent_text
from marl_sched.evaluation.suites import INDICES, SUITES, TUNED_INDEX
from marl_sched.export.portable import portable
from marl_sched.schedulers.learned.scorer_file import ScorerRecord, load_scorer, weights_digest
from marl_sched.types import Cluster

CARD = "MODEL_CARD.md"

_RARE_RULES = {
    "sim.node_mtbf_h": "nodes that fail",
    "sim.job_mtbf_h": "jobs that fail",
    "sim.sharing": "jobs that share GPUs",
    "sim.tenant_quota": "quotas of tenants",
    "sim.network_contention": "contention for the network",
}
"""What a suite covers only where it changes the setting."""

_USE = """\
Deciding which deep-learning jobs of a cluster get how many GPUs, where jobs can be resized and
preempted at a cost and their sizes are known by noisy estimates. `--scheduler pretrained` in
`simulate` and `evaluate`, `--set env.base=pretrained` in training; `scorer.onnx` elsewhere (its
manifest names inputs and outputs). All features are relative, so that one network serves any
cluster. It only corrects the scores of a rule: it decides about nothing but GPUs of jobs, and
holds no data of any job. In states unlike those of its training the rule that it started from
decides alone; `scorer.onnx` is the network without that guard, whose ranges its manifest gives
(`known`, and `fallback` for the rule)."""


def model_card(checkpoint: Path, results: list[Path]) -> str:
    """The card of the scorer in a run's folder, or of the one called `pretrained`.

    Raises:
        UserError: where there is none, or results are unreadable or of other weights.
    """
    return card_of(load_scorer(checkpoint), weights_digest(checkpoint), results)


def card_of(record: ScorerRecord, digest: str, results: list[Path]) -> str:
    """The card of a scorer.

    Args:
        digest: SHA-256 of its weights' file, by which its name in the results is found.
        results: folders that `evaluate --suite .. --out` left.
    """
    suites = [_read(folder, digest) for folder in results]
    lines = ["# Model card: a residual scorer on the elastic index", ""]
    if not suites:
        lines += [
            "> **Placeholder.** No evaluation results were given to this card: nothing is claimed "
            "about how good these weights are, and they are no recommendation.",
            "",
        ]
    lines += [*_what(record, digest), *_training(record), "## Intended use", "", _USE, ""]
    lines += ["## Results", ""]
    if not suites:
        lines += ["None were given.", ""]
    for report, name in suites:
        lines += [*_results(report, name), ""]
    lines += [*_limits(suites, _aim(record)), *_not_covered(suites)]
    return "\n".join(lines)


def _read(folder: Path, digest: str) -> tuple[dict[str, Any], str]:
    """report.json of a result folder, and the name under which these weights took part."""
    path = folder / "report.json"
    if not path.is_file():
        raise UserError(
            f"{folder}: no report.json; give a folder that `evaluate --suite .. --out` wrote"
        )
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        trained = [cell.get("weights_sha256", {}) for cell in report["cells"]]
        names = [name for name, of in trained[0].items() if of == digest]
        complete = all(TUNED_INDEX in cell["schedulers"] for cell in report["cells"])
        said = {name: report[name] for name in ("suite", "what")}
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        reason = " ".join(str(error).split())[:80]
        raise UserError(f"{path}: not the report of a suite ({reason}); run it again") from None
    if not names:
        raise UserError(
            f"{path}: these weights did not take part in {said['suite']}; run `evaluate --suite "
            f"{said['suite']}` with this scorer among the --scheduler options, and the same --out"
        )
    if not complete or any(cell["best_classic"] is None for cell in report["cells"]):
        raise UserError(
            f"{path}: {TUNED_INDEX} did not take part; run the suite again with it among the "
            "--scheduler options, and the same --out"
        )
    return report, names[0]


def _what(record: ScorerRecord, digest: str) -> list[str]:
    params = ", ".join(f"{key}={value:.4g}" for key, value in record.params.items())
    return [
        "## What it is",
        "",
        f"`elastic_index` with {params}, each of whose scores is corrected by a network of "
        f"{len(record.features)} features, {record.hidden} tanh units and one output "
        f"({len(record.weights)} weights). SHA-256 of the weights' file: `{digest}`.",
        "",
        f"Features: {', '.join(f'`{name}`' for name in record.features)} "
        "(`marl_sched/schedulers/learned/scorer.py` defines them).",
        "",
    ]


def _training(record: ScorerRecord) -> list[str]:
    config = record.config
    es, work = config["training"]["es"], config["workload"]
    traces = [work["trace"] or "the built-in generator", *es["traces"]]
    if es.get("suite"):
        traces.append(f"all clusters of suite `{es['suite']}`")
    tenants = f" (tenants {', '.join(work['tenants'])})" if work.get("tenants") else ""
    versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    terms = config["env"]["train_weights"]
    scored = f"cost, over all weights of {', '.join(terms)}," if terms else _aim(record)
    found = (
        "nothing did better than the index on validation: the network corrects nothing"
        if record.iteration == 0
        else f"generation {record.iteration} was the best on validation, "
        f"{record.validation:+.2f} % {scored} against the index that it corrects"
    )
    return [
        "## Training",
        "",
        f"    {record.command or '(the command was not recorded)'}",
        "",
        f"- Evolution strategies, seed {config['seed']}, {es['sequences']} sequences and "
        f"{es['pairs']} pairs of networks a generation; {found}.",
        *([f"- {record.note}"] if record.note else []),
        f"- Data: training parts of {', '.join(map(str, traces))}{tenants}; clusters "
        f"{', '.join(map(str, (config['cluster'], *config['env']['train_clusters'])))}.",
        f"- Source: commit {record.git_commit or 'unknown'}; {versions or 'versions unknown'}.",
        "",
    ]


def _aim(record: ScorerRecord) -> str:
    """What it is to lower."""
    return RewardWeights(**record.config["env"]["reward"]).words


def _results(report: dict[str, Any], name: str) -> list[str]:
    lines = [f"### Suite `{report['suite']}`: {report['what']}", ""]
    if report.get("command"):
        lines += [f"    {portable(report['command'])}", ""]
    lines += [
        "Mean completion time (JCT), percent, negative = shorter, with 95 % intervals. The best "
        "baseline is the one with the lowest mean JCT of the cell, chosen on the same sequences, "
        f"which favours it. {_index_words(report)}",
        "",
        "| cell | cluster | sequences | against the better index | best baseline | against it | "
        "x lower bound |",
        "|---|---|---:|---:|---|---:|---:|",
    ]
    for cell in report["cells"]:
        ratio = cell.get("vs_lower_bound", {}).get("avg_jct_ratio", {}).get(name)
        row = [
            cell["cell"], cell["cluster"], str(cell["episodes"]),
            _interval(_versus_of(cell, _INDEX)[name]), f"`{cell['best_classic']}`",
            _interval(_versus_of(cell, _CLASSIC)[name]),
            "" if ratio is None else f"{ratio['mean']:.2f}",
        ]  # fmt: skip
        lines.append("| " + " | ".join(row) + " |")
    lines += ["", *_counts(report, name)]
    return lines


def _interval(found: dict[str, dict[str, float]]) -> str:
    return percent_text(found["avg_jct_percent"])


_INDEX, _CLASSIC = "vs_best_index", "vs_best_classic"


def _versus_of(cell: dict[str, Any], key: str) -> dict[str, Any]:
    """Everybody against one of them; earlier reports know the tuned index alone."""
    found: dict[str, Any] = cell.get(key) or cell["vs_tuned_index"]
    return found


def _index_words(report: dict[str, Any]) -> str:
    """Which elastic index is compared with."""
    played = [n for n in INDICES if all(n in cell["schedulers"] for cell in report["cells"])]
    absent = [f"`{name}`" for name in INDICES if name not in played]
    if absent:
        return f"The index is `{played[0]}`; {' and '.join(absent)} did not take part."
    named = " and ".join(f"`{name}`" for name in played)
    return f"The better index, of {named}, is chosen in the same way."


def _counts(report: dict[str, Any], name: str) -> list[str]:
    lines = []
    for key, against in ((_INDEX, "the better index of each"),
                         (_CLASSIC, "the best baseline of each")):  # fmt: skip
        jcts = {c["cell"]: _versus_of(c, key)[name]["avg_jct_percent"] for c in report["cells"]}
        clear = {cell: jct["mean"] for cell, jct in jcts.items() if not doubt(jct)}
        shorter = [cell for cell, mean in clear.items() if mean < 0.0]
        longer = [cell for cell, mean in clear.items() if mean > 0.0]
        unsure = sum(jct["low"] is None for jct in jcts.values())
        unknown = f", or there is none ({unsure})" if unsure else ""
        named = f" ({', '.join(longer)})" if longer else ""
        lines.append(
            f"- Against {against}: shorter in {len(shorter)} of {len(jcts)} cells, longer in "
            f"{len(longer)}{named}; in the others the interval holds 0{unknown}."
        )
    shares = [fallbacks(cell).get(name, 0.0) for cell in report["cells"]]
    most = max(range(len(shares)), key=shares.__getitem__)
    lines.append(
        f"- Decisions left to the index, in states unlike those of training: at most "
        f"{100.0 * shares[most]:.1f} % in a cell ({report['cells'][most]['cell']})."
    )
    return lines


def _limits(suites: list[tuple[dict[str, Any], str]], aim: str) -> list[str]:
    lines = ["## Limits", ""]
    for report, name in suites:
        worst = max(
            report["cells"], key=lambda c: c["vs_best_classic"][name]["avg_jct_percent"]["mean"]
        )
        lines.append(
            f"- Worst cell of `{report['suite']}`: {worst['cell']}, "
            f"{_interval(worst['vs_best_classic'][name])} % against `{worst['best_classic']}`."
        )
    lines += [
        "- Weights of one training run: other seeds may do better or worse.",
        f"- The aim is {aim}: single jobs and tenants, and costs that have no weight in it, "
        "are not part of it.",
        "- Figures are of a simulator; no real cluster has been scheduled.",
        "",
    ]
    return lines


def _not_covered(suites: list[tuple[dict[str, Any], str]]) -> list[str]:
    lines = ["## What these results do not cover", ""]
    cells = [cell for report, _ in suites for cell in report["cells"]]
    if cells:
        machines = [Cluster.parse(cell["cluster"]) for cell in cells]
        gpus = [cluster.num_gpus for cluster in machines]
        lines.append(f"- Clusters of fewer than {min(gpus)} or more than {max(gpus)} GPUs.")
        if not any("+" in cell["cluster"] for cell in cells):
            lines.append("- Clusters of several GPU types.")
    played = {report["suite"] for report, _ in suites}
    pages = [SUITES[name] for name in SUITES if name in played]
    loads = [cell.load for page in pages for cell in page.cells if cell.load is not None]
    if loads:
        lines.append(f"- Offered loads below {min(loads):g} or above {max(loads):g}.")
    changed = {f"{section}.{key}" for page in pages for cell in page.cells
               for section, keys in cell.changes.items() for key in keys}  # fmt: skip
    lines += [f"- {_capital(what)}." for key, what in _RARE_RULES.items() if key not in changed]
    missing = [f"`{name}` ({SUITES[name].what})" for name in SUITES if name not in played]
    if missing:
        lines.append(f"- Suites without results here: {_listed(missing)}.")
    return [*lines, ""]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _listed(items: Iterable[str]) -> str:
    return "; ".join(items)
