"""`marl-sched evaluate`: trained and classic schedulers on the same held-out episodes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from marl_sched.cli import options as o

if TYPE_CHECKING:
    from marl_sched.config import Config
    from marl_sched.evaluation.suite_run import Entrant


def evaluate(
    scheduler: Annotated[
        list[str] | None,
        typer.Option(
            help="A run's folder, `pretrained`, or a classic scheduler's name (NAME:tuned for its "
            "tuned parameters); may be repeated.",
            show_default="of a suite: the tuned baselines",
        ),
    ] = None,
    suite: Annotated[
        str | None,
        typer.Option(help="Judge on a suite of clusters: quick, held-out, shift or training."),
    ] = None,
    data: o.SuiteData = None,
    trace: o.Trace = None,
    format: o.Format = None,
    cluster: o.ClusterOption = None,
    load: o.Load = None,
    estimate_noise: o.Noise = None,
    seed: o.Seed = None,
    episodes: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="At most: windows of jobs that share none, times draws of what a seed decides.",
            show_default="20",
        ),
    ] = None,
    jobs_per_episode: Annotated[
        int | None, typer.Option(min=1, show_default="as in training, at least 256")
    ] = None,
    part: Annotated[
        str, typer.Option(help="Part of the trace: test, validation, or whole.")
    ] = "test",
    skip_bad_rows: o.SkipBadRows = False,
    config: o.ConfigFile = None,
    set_: o.Settings = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write the JSON report here too; with --suite a folder, which also keeps what is "
            "finished: the same command goes on after a stop."
        ),
    ] = None,
    as_json: o.Json = False,
) -> None:
    """Compare schedulers on the same episodes, paired, with 95 % intervals.

    Episodes come from the part of the trace that training never saw; `--part whole` is for a
    trace of which it saw nothing. Without --trace and --cluster, those of the first trained
    scheduler are used. With --suite, the suite names traces, clusters and conditions.
    """
    from marl_sched.cli import tables
    from marl_sched.errors import UserError
    from marl_sched.files import write_text

    options = o.workload_options(trace, format, cluster, load, estimate_noise, seed, skip_bad_rows)
    options |= {"evaluation__episodes": episodes, "evaluation__jobs_per_episode": jobs_per_episode}
    given = o.Given(config, set_, options)
    names = list(dict.fromkeys(scheduler or ()))
    if suite is not None:
        from marl_sched.cli.evaluate_suite import evaluate_suite

        if trace is not None or cluster is not None:
            raise UserError("--suite names its own traces and clusters: leave out the others")
        evaluate_suite(suite, data, names, given, out, as_json)
        return
    if not names:
        raise UserError("--scheduler: name at least one, or take --suite quick")
    if part not in ("test", "validation", "whole"):
        raise UserError(
            f"--part {part!r}: choose test, validation or whole (training is never judged on)"
        )
    report = compare_schedulers(names, part, given)
    text = json.dumps(report)
    if out is not None:
        write_text(out, text + "\n")
    if as_json:
        print(text)
    else:
        tables.print_comparison(f"held-out jobs ({part} part)", report)


def compare_schedulers(names: list[str], part: str, given: o.Given) -> dict[str, Any]:
    """The report of `evaluate --json` for run folders and classic schedulers."""
    from marl_sched.cli import tables
    from marl_sched.envs.batched import load_part
    from marl_sched.evaluation.suite_run import CellRun, play_cell

    entrants = Entrants(names, given)
    resolved = given.resolve(entrants.base)
    tables.report_skipped(load_part(resolved, part).skipped)
    with tables.status("evaluating") as shown:
        report = play_cell(
            CellRun("", part, resolved),
            entrants.all(),
            None,
            lambda name: shown.update(f"evaluating: {name}"),
        )
    return report | {
        "trace": resolved.workload.trace,
        "seed": resolved.seed,
        "agents": {name: entrants.agents(name) for name in names},
    }


class Entrants:
    """The schedulers that were named, run folders loaded."""

    def __init__(self, names: list[str], given: o.Given) -> None:
        from marl_sched.schedulers import REGISTRY, get_scheduler
        from marl_sched.schedulers.scorer_file import is_scorer

        self.names = names
        self.classic = [name for name in names if name.partition(":")[0] in REGISTRY]
        self.scorers = [name for name in names if name not in self.classic and is_scorer(name)]
        self.rules = {name: get_scheduler(name) for name in (*self.classic, *self.scorers)}
        self.learned = {name: _load(name) for name in names if name not in self.rules}
        self._games = {
            name: given.resolve(policy.manifest.config) for name, policy in self.learned.items()
        }

    @property
    def base(self) -> dict[str, Any] | None:
        """Settings of the first trained scheduler; None without one."""
        from marl_sched.schedulers.scorer_file import PRETRAINED, load_scorer

        for name in self.names:
            if name in self.learned:
                config: dict[str, Any] = self.learned[name].manifest.config
                return config
            # What it was trained on is not here: the built-in workload, as for classic ones.
            if name in self.scorers and name != PRETRAINED:
                return load_scorer(name).config
        return None

    def digests(self) -> dict[str, str]:
        """SHA-256 of the weights of each trained scheduler."""
        from marl_sched.schedulers.scorer_file import weights_digest

        found = {name: weights_digest(name) for name in self.scorers}
        return found | {name: policy.manifest.sha256 for name, policy in self.learned.items()}

    def agents(self, name: str) -> str:
        """How agents declare their demand under scheduler `name`."""
        if name in self.rules:
            return "honest"
        agents = self._games[name].env.agents
        honest = agents == "learned" and self.learned[name].demand is None
        return "honest" if honest else str(agents)

    def all(self) -> list[Entrant]:
        """Ready to be played, in the order in which they were named."""
        from marl_sched.evaluation.compare import run_classic
        from marl_sched.evaluation.suite_run import Entrant

        found = []
        for name in self.names:
            if name in self.rules:
                rule = self.rules[name]

                def play(judged: Any, part: str, episodes: Any, rule: Any = rule) -> Any:
                    return run_classic(judged, part, rule, episodes)

                identity = json.dumps([rule.name, rule.params, rule.weights])
                found.append(Entrant(name, identity, play, classic=name in self.classic))
            else:
                policy, game = self.learned[name], self._games[name]

                def act(
                    judged: Any, part: str, episodes: Any, name: str = name,
                    policy: Any = policy, game: Any = game,
                ) -> Any:  # fmt: skip
                    return _run(name, policy, _judged(game, judged), part, episodes)

                identity = json.dumps([policy.manifest.sha256, policy.manifest.agent_sha256,
                                       game.env.model_dump(mode="json")])  # fmt: skip
                found.append(Entrant(name, identity, act, classic=False))
        return found


def _judged(game: Config, judged: Config) -> Config:
    """The game that a scheduler was trained on, with the jobs, cluster and rules of another."""
    sections = ("seed", "cluster", "workload", "sim", "evaluation")
    return game.model_copy(update={key: getattr(judged, key) for key in sections})


def _load(name: str) -> Any:
    from marl_sched.errors import UserError
    from marl_sched.schedulers import REGISTRY, get_scheduler
    from marl_sched.schedulers.scorer_file import PRETRAINED

    if not Path(name).exists() and name.partition(":")[0] == PRETRAINED:
        get_scheduler(name)  # says what is wrong with it
    if not Path(name).exists():
        raise UserError(
            f"--scheduler {name!r}: neither a classic scheduler ({', '.join(REGISTRY)}) nor "
            "`pretrained` nor the folder of a training run"
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
