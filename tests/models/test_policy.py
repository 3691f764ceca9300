"""The artefact: what is written is what is read, and what is damaged is refused in one line."""

from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from marl_sched.errors import UserError
from marl_sched.models.network import ActionNetwork, DuelingNetwork, NetworkSizes
from marl_sched.models.policy import LearnedPolicy, Manifest, load_policy, save_policy
from tests.models.test_network import SIZES, observation


def make_policy(algo: str, **changes: object) -> LearnedPolicy:
    network = ActionNetwork(SIZES) if algo == "ppo" else DuelingNetwork(SIZES)
    state = {name: value.detach().numpy() for name, value in network.state_dict().items()}
    manifest = Manifest(
        algo=algo,
        sizes=SIZES.as_dict(),
        actions="edit",
        algorithms=["a", "b", "c"],
        base="a",
        is_base=False,
        iteration=7,
        validation=-1.5,
        config={},
    )
    return LearnedPolicy(replace(manifest, **changes), state)  # type: ignore[arg-type]


def arrays(num_slots: int = 6) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in observation(num_slots, batch=50).items()}


def spaces(sizes: NetworkSizes, num_slots: int = 6) -> tuple[gym.Space, gym.Space]:
    num_actions = 1 + sizes.num_algorithms + 2 * num_slots

    def box(*shape: int) -> gym.spaces.Box:
        return gym.spaces.Box(-1, 1, shape, np.float32)

    observations = gym.spaces.Dict(
        {
            "jobs": box(num_slots, sizes.job_features),
            "cluster": box(sizes.cluster_features),
            "globals": box(sizes.global_features),
            "weights": box(sizes.weight_features),
            "mask": box(num_actions),
        }
    )
    return observations, gym.spaces.Discrete(num_actions)


@pytest.mark.parametrize("algo", ["ppo", "dqn"])
def test_round_trip(tmp_path: Path, algo: str) -> None:
    policy, obs = make_policy(algo), arrays()
    save_policy(make_policy(algo, iteration=3), tmp_path / "best")
    save_policy(policy, tmp_path / "best")
    for path in (tmp_path, tmp_path / "best"):
        again = load_policy(path, spaces(SIZES))
        np.testing.assert_array_equal(again.act(obs), policy.act(obs))
        assert again.manifest.iteration == 7 and again.manifest.validation == -1.5
    assert [p.name for p in (tmp_path / "best").glob("*.safetensors")] == ["weights-7.safetensors"]


@pytest.mark.parametrize("algo", ["ppo", "dqn"])
def test_acts_legally_on_any_number_of_slots(algo: str) -> None:
    policy = make_policy(algo)
    for num_slots in (1, 6, 40):
        obs = arrays(num_slots)
        actions = policy.act(obs)
        assert actions.dtype == np.int64
        assert (obs["mask"][np.arange(50), actions] == 1).all()


def test_an_algorithm_is_played_where_it_may_be() -> None:
    obs = arrays()
    obs["mask"][:7, 2] = 0
    actions = make_policy("dqn", plays=2).act(obs)
    assert (actions[:7] == 0).all() and set(actions[7:]) <= {0, 2} and 2 in actions
    assert (obs["mask"][np.arange(50), actions] == 1).all()


def test_carries_the_scorer_that_it_stands_on(tmp_path: Path) -> None:
    scorer, best = tmp_path / "base", tmp_path / "run" / "best"
    scorer.mkdir()
    (scorer / "file").write_text("weights")
    config = {"env": {"base": str(scorer), "actions": "edit"}}
    policy = make_policy("ppo", base=str(scorer), base_folder="base-4", config=config)
    save_policy(replaced(policy, base_folder="base-3"), best)
    save_policy(policy, best)
    assert sorted(p.name for p in best.glob("base-*")) == ["base-4"]
    assert str(tmp_path) not in (best / "manifest.json").read_text()
    shutil.rmtree(scorer)
    moved = best.parent.rename(tmp_path / "moved")
    manifest = load_policy(moved).manifest
    assert (Path(manifest.base) / "file").read_text() == "weights"
    assert manifest.config == {"env": {"base": manifest.base, "actions": "edit"}}
    # Saved again elsewhere, it takes its base along.
    save_policy(load_policy(moved), tmp_path / "copy")
    assert (tmp_path / "copy" / "base-4" / "file").is_file()


def replaced(policy: LearnedPolicy, **changes: object) -> LearnedPolicy:
    return LearnedPolicy(replace(policy.manifest, **changes), policy.state())  # type: ignore[arg-type]


def test_the_base_commits_whatever_the_weights() -> None:
    assert (make_policy("ppo", is_base=True).act(arrays()) == 0).all()


def test_other_observation_size_names_both(tmp_path: Path) -> None:
    save_policy(make_policy("ppo"), tmp_path)
    with pytest.raises(UserError, match=r"4 job_features.*has 9.*config.yaml"):
        load_policy(tmp_path, spaces(replace(SIZES, job_features=9)))
    load_policy(tmp_path, spaces(SIZES, num_slots=50))


def test_no_checkpoint_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no trained scheduler here"):
        load_policy(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        load_policy(tmp_path / "missing")


def test_a_pickle_is_not_read(tmp_path: Path) -> None:
    folder = tmp_path / "iter_3" / "learner"
    folder.mkdir(parents=True)
    (folder / "state.pkl").write_bytes(pickle.dumps("code"))
    with pytest.raises(UserError, match=r"holds a pickle \(learner/state.pkl\)"):
        load_policy(tmp_path / "iter_3")


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, bad: float) -> None:
    """Also with a digest that fits: no network can have learned them."""
    policy = make_policy("ppo")
    state = policy.state()
    state["slot_head.bias"] = np.full_like(state["slot_head.bias"], bad)
    save_policy(LearnedPolicy(policy.manifest, state), tmp_path)
    with pytest.raises(UserError, match="slot_head.bias has weights that are no numbers"):
        load_policy(tmp_path)


@pytest.mark.parametrize("plays", [0, -1, 99, 1.5, "1"])
def test_an_algorithm_that_is_none_is_refused(tmp_path: Path, plays: object) -> None:
    save_policy(replaced(make_policy("ppo"), plays=plays), tmp_path)
    with pytest.raises(UserError, match="no algorithm has the action"):
        load_policy(tmp_path)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    save_policy(make_policy("ppo"), tmp_path)
    manifest = tmp_path / "manifest.json"
    whole = manifest.read_text()
    weights = tmp_path / "weights-7.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[:-4] + b"0000")
    with pytest.raises(UserError, match="weights-7.safetensors: does not match the SHA-256"):
        load_policy(tmp_path)
    weights.unlink()
    with pytest.raises(UserError, match="weights-7.safetensors: cannot be read"):
        load_policy(tmp_path)
    weights.write_bytes(data)
    for text in ("{", "[]", "{}", json.dumps({**json.loads(whole), "format": "other/9"})):
        manifest.write_text(text)
        with pytest.raises(UserError):
            load_policy(tmp_path)
    manifest.write_text(json.dumps({**json.loads(whole), "sizes": {}}))
    with pytest.raises(UserError, match="not a readable"):
        load_policy(tmp_path)
