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

Expect sampling to be more than ten times stock's, DQN five times and PPO one and a half times. Takes
three minutes.
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
from marl_sched.training.rollout import SCHEDULER
from marl_sched.training.run import build_algorithm
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


def rate(work: Callable[[], int], seconds: float, clock: Callable[[], float] = cpu_s) -> float:
    """Decisions per second of `clock`, after one call that warms up; two calls at least."""
    work()
    begun, count, calls = clock(), 0, 0
    while calls < 2 or clock() - begun < seconds:
        count += work()
        calls += 1
    return count / (clock() - begun)


@contextlib.contextmanager
def built(config: Any) -> Iterator[Any]:
    """The algorithm of an RLlib configuration, or of one of ours."""
    algorithm = build_algorithm(config) if isinstance(config, Config) else config.build_algo()
    try:
        yield algorithm
    finally:
        algorithm.stop()


def sample_rate(config: Any, seconds: float) -> float:
    """Of the local runner alone."""
    with built(config) as algorithm:
        runner = algorithm.env_runner

        def sample() -> int:
            decisions = sum(len(part) for part in runner.sample(num_timesteps=FRAGMENT))
            runner.get_metrics()
            return decisions

        return rate(sample, seconds)


def train_rate(config: Any, seconds: float) -> float:
    """Of `Algorithm.train()`, once updates have begun."""
    with built(config) as algorithm:
        before = 0

        def train() -> int:
            nonlocal before
            total = algorithm.train()["env_runners"]["num_env_steps_sampled_lifetime"]
            decisions, before = int(total) - before, int(total)
            return decisions

        return rate(train, seconds)


def runners_rate(runners: int, seconds: float) -> float:
    """Decisions per second of wall time that so many remote runners sample."""
    with built(settings("ppo", f"training.num_env_runners={runners}")) as algorithm:
        group = algorithm.env_runner_group

        def sample() -> int:
            return sum(
                group.foreach_env_runner(
                    lambda runner: sum(map(len, runner.sample(num_timesteps=4 * FRAGMENT))),
                    local_env_runner=False,
                )
            )

        return rate(sample, seconds, time.perf_counter)


def bench(seconds: float) -> dict[str, Any]:
    """All ratios, and our sampling by credit."""
    ppo, dqn = settings("ppo"), settings("dqn")
    pairs = {
        "sample": (sample_rate, ppo, stock_ppo(ppo)),
        "dqn_train": (train_rate, dqn, stock_dqn(dqn)),
        "ppo_train": (train_rate, ppo, stock_ppo(ppo)),
    }
    report: dict[str, Any] = {}
    for name, (measure, ours, stock) in pairs.items():
        rows = {"ours": measure(ours, seconds), "stock": measure(stock, seconds)}
        report |= {f"{name}_ratio": rows["ours"] / rows["stock"], name: rows}
    ahead = {"random": "model.commit_bias=0", "mostly_base": "model.commit_bias=3"}
    return {
        "decisions_per_cpu_s": report["sample"]["ours"],
        **report,
        "lookahead": {
            name: sample_rate(settings("ppo", "env.credit=lookahead", bias), seconds)
            for name, bias in ahead.items()
        },
    }


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
            alone, together = (runners_rate(n, args.seconds) for n in (1, args.runners))
            report |= {
                "runners_ratio": together / alone,
                "runners": {"1": alone, str(args.runners): together},
            }
    if args.json:
        print(json.dumps(report))
        return
    for name, value in report.items():
        rows = value.items() if isinstance(value, dict) else [("", value)]
        print(f"{name:22s}" + "  ".join(f"{key} {figure:,.2f}" for key, figure in rows))


if __name__ == "__main__":
    main()
