"""`marl-sched evaluate`: trained and classic schedulers on the same held-out episodes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from marl_sched.cli import options as o

if TYPE_CHECKING:
    from marl_sched.config import Config


def evaluate(
    scheduler: Annotated[
        list[str],
        typer.Option(help="A run's folder, or a classic scheduler's name; may be repeated."),
    ],
    trace: o.Trace = None,
    format: o.Format = None,
    cluster: o.ClusterOption = None,
    load: o.Load = None,
    estimate_noise: o.Noise = None,
    seed: o.Seed = None,
    episodes: Annotated[int | None, typer.Option(min=1, show_default="20")] = None,
    jobs_per_episode: Annotated[
        int | None, typer.Option(min=1, show_default="as in training, 128")
    ] = None,
    part: Annotated[str, typer.Option(help="Part of the trace: test or validation.")] = "test",
    skip_bad_rows: o.SkipBadRows = False,
    config: o.ConfigFile = None,
    set_: o.Settings = None,
    out: Annotated[Path | None, typer.Option(help="Write the JSON report here too.")] = None,
    as_json: o.Json = False,
) -> None:
    """Compare schedulers on the same episodes, paired, with 95 % intervals.

    Episodes come from the part of the trace that training never saw. Without --trace and
    --cluster, those of the first trained scheduler are used.
    """
    from marl_sched.cli import tables
    from marl_sched.errors import UserError
    from marl_sched.files import write_text

    if part not in ("test", "validation"):
        raise UserError(f"--part {part!r}: choose test or validation (training is never judged on)")
    given = o.workload_options(trace, format, cluster, load, estimate_noise, seed, skip_bad_rows)
    given |= {"evaluation__episodes": episodes, "evaluation__jobs_per_episode": jobs_per_episode}
    report = compare_schedulers(list(dict.fromkeys(scheduler)), part, config, set_, given)
    text = json.dumps(report)
    if out is not None:
        write_text(out, text + "\n")
    if as_json:
        print(text)
    else:
        tables.print_comparison(f"held-out jobs ({part} part)", report)


def compare_schedulers(
    names: list[str],
    part: str,
    config: Path | None,
    settings: list[str] | None,
    options: dict[str, Any],
) -> dict[str, Any]:
    """The report of `evaluate --json` for run folders and classic schedulers."""
    from marl_sched.cli import tables
    from marl_sched.envs.batched import load_part
    from marl_sched.evaluation.compare import compare, job_overlap, part_episodes, run_classic
    from marl_sched.schedulers import REGISTRY, get_scheduler
    from marl_sched.schedulers.scorer_file import is_scorer

    classic = [name for name in names if name.partition(":")[0] in REGISTRY]
    rules = {name: get_scheduler(name) for name in classic}
    others = [name for name in names if name not in rules]
    rules |= {name: get_scheduler(name) for name in others if is_scorer(name)}
    learned = {name: _load(name) for name in others if name not in rules}
    base = _config_of(others[0], learned) if others else None
    resolved = o.resolve(config=config, settings=settings, base=base, **options)
    tables.report_skipped(load_part(resolved, part).skipped)
    episodes = part_episodes(resolved, part, resolved.evaluation.episodes)
    runs: dict[str, list[dict[str, float]]] = {}
    agents = dict.fromkeys(rules, "honest")
    for name in names:
        with tables.status(f"evaluating {name}"):
            if name in rules:
                runs[name] = run_classic(resolved, part, rules[name], episodes)
            else:
                own = o.resolve(
                    config=config, settings=settings, base=learned[name].manifest.config, **options
                )
                judged_on = {
                    key: getattr(resolved, key)
                    for key in ("seed", "cluster", "workload", "sim", "evaluation")
                }
                game = own.model_copy(update=judged_on)
                runs[name] = _run(name, learned[name], game, part, episodes)
                honest = game.env.agents == "learned" and learned[name].demand is None
                agents[name] = "honest" if honest else game.env.agents
    report = compare(runs, tuple(classic), job_overlap(episodes), resolved.seed)
    return report | {
        "part": part,
        "cluster": resolved.cluster,
        "trace": resolved.workload.trace,
        "seed": resolved.seed,
        "agents": agents,
    }


def _config_of(name: str, learned: dict[str, Any]) -> dict[str, Any]:
    """Settings that a trained scheduler was trained with."""
    if name in learned:
        config: dict[str, Any] = learned[name].manifest.config
        return config
    from marl_sched.schedulers.scorer_file import load_scorer

    return load_scorer(Path(name)).config


def _load(name: str) -> Any:
    from marl_sched.errors import UserError
    from marl_sched.schedulers import REGISTRY

    if not Path(name).exists():
        raise UserError(
            f"--scheduler {name!r}: neither a classic scheduler ({', '.join(REGISTRY)}) nor the "
            "folder of a training run"
        )
    from marl_sched.models.policy import load_policy

    return load_policy(Path(name))


def _run(
    name: str, policy: Any, game: Config, part: str, episodes: list[Any]
) -> list[dict[str, float]]:
    """A trained scheduler plays the game it was trained on, with the given jobs and cluster."""
    from marl_sched.envs.agents import agent_observation_space
    from marl_sched.envs.batched import spec_spaces
    from marl_sched.errors import UserError
    from marl_sched.evaluation.learned import run_learned

    try:
        policy.check(*spec_spaces(game), agent_observation_space())
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
    return run_learned(game, part, policy.act, episodes, policy.demand)
