"""How fast training is beside stock RLlib, on one thread, after compilation.

    python benchmarks/bench_training.py --json

Both sides play the same game (64 job slots, 16 environments in the local runner, edits and
algorithms allowed) with the same network and the same batch sizes: ours steps arrays
(`training.runner`, `training.replay`), stock RLlib steps `SchedulingEnv` with its own env runner,
connectors and episode buffer. Prints decisions per CPU second (this process and its children),
environment and network included, of

* `sample`: PPO's env runner alone, `sample()` and `get_metrics()`;
* `ppo_train`, `dqn_train`: `Algorithm.train()`, the updates included;

each as `ours`, `stock` and `..._ratio`, with `env.credit=shadow`; `decisions_per_cpu_s` is ours
when sampling. `lookahead` holds our sampling with the credit that training uses, whose cost is the
simulator's: in a fresh policy's random rounds, and in rounds which mostly commit the base
schedule (`model.commit_bias=3`), as of a policy that has learned. `--runners 2` adds
`runners_ratio`: how much more per second of wall time two runners of one CPU each sample than one;
it needs idle cores.

Expect sampling to be more than ten times stock's, DQN five times and PPO one and a half times.
Takes three minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from ray.rllib.algorithms.dqn import DQNConfig
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec

from marl_sched.config import Config, load_config
from marl_sched.envs.multi_agent import ENV_NAME
from marl_sched.models.dqn import DQNModule
from marl_sched.models.ppo import PPOModule
from marl_sched.training import common
from marl_sched.training.rllib import build_algorithm
from marl_sched.training.rollout import SCHEDULER
from marl_sched.training.runner import DEFAULT_ENV_CLASS
from marl_sched.training.session import ray_session

SLOTS, NUM_ENVS = 64, 16
FRAGMENT = 4096
"""Decisions in one measured call of a runner's `sample`."""


def settings(algo: str, *extra: str) -> Config:
    """The benchmark's game and training, with a local runner."""
    return load_config(
        overrides=[
            f"training.algo={algo}", f"env.job_slots={SLOTS}", "env.actions=full",
            f"training.num_envs_per_runner={NUM_ENVS}", "training.num_env_runners=0",
            "env.credit=shadow", *extra,
        ]
    )  # fmt: skip


def stock_base(config: Config, algorithm: Any, module: Any, fragment: int, **more: Any) -> Any:
    """What stock PPO and stock DQN share: RLlib's own runner on `SchedulingEnv`, our network."""
    spaces = common.spaces_of(config, DEFAULT_ENV_CLASS)
    spec = common.module_spec(config, module, spaces, **more)
    return (
        algorithm.environment(ENV_NAME, env_config={"config": config})
        .framework("torch")
        .env_runners(
            num_env_runners=0,
            num_envs_per_env_runner=NUM_ENVS,
            rollout_fragment_length=fragment,
        )
        .multi_agent(policies={SCHEDULER}, policy_mapping_fn=lambda *args, **kwargs: SCHEDULER)
        .rl_module(rl_module_spec=MultiRLModuleSpec(rl_module_specs={SCHEDULER: spec}))
        .learners(num_learners=0)
        .debugging(seed=config.seed, log_level="ERROR")
    )


def stock_ppo(config: Config) -> PPOConfig:
    """Stock PPO with our settings."""
    ppo = config.training.ppo
    fragment = ppo.batch_size // NUM_ENVS
    base = stock_base(
        config, PPOConfig(), PPOModule, fragment, commit_bias=config.model.commit_bias
    )
    return base.training(
        lr=ppo.lr,
        gamma=ppo.gamma,
        lambda_=ppo.lambda_,
        clip_param=ppo.clip,
        kl_target=ppo.kl_target,
        entropy_coeff=ppo.entropy,
        vf_loss_coeff=ppo.value_loss_coeff,
        vf_clip_param=float("inf"),
        num_epochs=ppo.epochs,
        train_batch_size_per_learner=ppo.batch_size,
        minibatch_size=ppo.minibatch_size,
        grad_clip=ppo.grad_clip,
        grad_clip_by="global_norm",
    )


def stock_dqn(config: Config) -> DQNConfig:
    """Stock DQN with our settings."""
    dqn = config.training.dqn
    exploration = {"epsilon": list(dqn.epsilon), "epsilon_decisions": dqn.epsilon_decisions}
    base = stock_base(config, DQNConfig(), DQNModule, 16, **exploration)
    return base.training(
        lr=dqn.lr,
        gamma=dqn.gamma,
        n_step=dqn.n_step,
        double_q=True,
        dueling=True,
        num_atoms=1,
        td_error_loss_fn="huber",
        train_batch_size_per_learner=dqn.batch_size,
        num_steps_sampled_before_learning_starts=dqn.learning_starts,
        target_network_update_freq=dqn.target_update,
        training_intensity=dqn.training_intensity,
        grad_clip=dqn.grad_clip,
        grad_clip_by="global_norm",
        replay_buffer_config={
            "type": "MultiAgentPrioritizedEpisodeReplayBuffer",
            "capacity": dqn.buffer_size,
            "alpha": dqn.alpha,
            "beta": dqn.beta,
        },
    ).reporting(
        min_time_s_per_iteration=None,
        min_sample_timesteps_per_iteration=dqn.decisions_per_iteration,
    )


def cpu_s() -> float:
    """CPU seconds of this process and of the children that have ended."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def rates(
    works: dict[str, Callable[[], int]], seconds: float, clock: Callable[[], float] = cpu_s
) -> dict[str, float]:
    """Decisions per second of `clock` of each work, in turns, after one call that warms up.

    Turns let what else the machine does slow all of them down alike.
    """
    spent, done = dict.fromkeys(works, 0.0), dict.fromkeys(works, 0)
    for work in works.values():
        work()
    while min(spent.values()) < seconds:
        name = min(spent, key=lambda name: spent[name])
        begun = clock()
        done[name] += works[name]()
        spent[name] += clock() - begun
    return {name: done[name] / spent[name] for name in works}


@contextlib.contextmanager
def built(config: Any) -> Iterator[Any]:
    """The algorithm of an RLlib configuration, or of one of ours."""
    algorithm = build_algorithm(config) if isinstance(config, Config) else config.build_algo()
    try:
        yield algorithm
    finally:
        algorithm.stop()


def sampling(algorithm: Any) -> Callable[[], int]:
    """One call of the local runner alone; its decisions."""
    runner = algorithm.env_runner

    def sample() -> int:
        decisions = sum(len(part) for part in runner.sample(num_timesteps=FRAGMENT))
        runner.get_metrics()
        return decisions

    return sample


def training(algorithm: Any) -> Callable[[], int]:
    """One call of `Algorithm.train()`; the decisions that it sampled."""
    before = 0

    def train() -> int:
        nonlocal before
        total = int(algorithm.train()["env_runners"]["num_env_steps_sampled_lifetime"])
        decisions, before = total - before, total
        return decisions

    return train


def compare(
    work: Callable[[Any], Callable[[], int]], configs: dict[str, Any], seconds: float
) -> Any:
    """Decisions per CPU second of `work` on the algorithms of `configs`."""
    with contextlib.ExitStack() as stack:
        built_ones = {name: stack.enter_context(built(one)) for name, one in configs.items()}
        return rates({name: work(one) for name, one in built_ones.items()}, seconds)


def runners_rates(runners: int, seconds: float) -> dict[str, float]:
    """Decisions per second of wall time of one remote runner, and of so many."""

    def sampling_remotely(algorithm: Any) -> Callable[[], int]:
        group = algorithm.env_runner_group
        return lambda: sum(
            group.foreach_env_runner(
                lambda runner: sum(map(len, runner.sample(num_timesteps=4 * FRAGMENT))),
                local_env_runner=False,
            )
        )

    found = {}
    for number in (1, runners):
        with built(settings("ppo", f"training.num_env_runners={number}")) as algorithm:
            works = {str(number): sampling_remotely(algorithm)}
            found |= rates(works, seconds, time.perf_counter)
    return found


def bench(seconds: float) -> dict[str, Any]:
    """All ratios, and our sampling by credit."""
    ppo, dqn = settings("ppo"), settings("dqn")
    report: dict[str, Any] = {
        name: compare(work, {"ours": ours, "stock": stock}, seconds)
        for name, work, ours, stock in (
            ("sample", sampling, ppo, stock_ppo(ppo)),
            ("dqn_train", training, dqn, stock_dqn(dqn)),
            ("ppo_train", training, ppo, stock_ppo(ppo)),
        )
    }
    ratios = {f"{name}_ratio": row["ours"] / row["stock"] for name, row in report.items()}
    biases = {"random": "model.commit_bias=0", "mostly_base": "model.commit_bias=3"}
    ahead = {name: settings("ppo", "env.credit=lookahead", bias) for name, bias in biases.items()}
    report["lookahead"] = compare(sampling, ahead, seconds)
    return {"decisions_per_cpu_s": report["sample"]["ours"]} | ratios | report


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=8.0, help="CPU seconds of each figure")
    parser.add_argument("--runners", type=int, help="compare so many remote runners with one")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with ray_session(None, args.runners or 0):
        report = bench(args.seconds)
        if args.runners:
            found = runners_rates(args.runners, args.seconds)
            report |= {
                "runners_ratio": found[str(args.runners)] / found["1"],
                "runners": found,
            }
    if args.json:
        print(json.dumps(report))
        return
    for name, value in report.items():
        rows = value.items() if isinstance(value, dict) else [("", value)]
        print(f"{name:22s}" + "  ".join(f"{key} {figure:,.2f}" for key, figure in rows))


if __name__ == "__main__":
    main()
