"""Settings: which of several sources wins, what comes back from a file, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

import marl_sched.config as config
from marl_sched.config import Config, load_config, save_config, validate_config
from marl_sched.errors import UserError


def test_options_win_over_set_over_the_file_over_defaults(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("sim: {round_s: 2, job_mtbf_h: 2, node_mtbf_h: 2}\n")
    defaults = dict.fromkeys(("round_s", "job_mtbf_h", "node_mtbf_h", "node_mttr_h"), 1)
    found = load_config(
        file,
        ["sim.job_mtbf_h=3", "sim.node_mtbf_h=3"],
        defaults={"sim": defaults},
        options={"sim": {"node_mtbf_h": 4}},
    ).sim
    order = (found.node_mttr_h, found.round_s, found.job_mtbf_h, found.node_mtbf_h)
    assert order == (1.0, 2.0, 3.0, 4.0)
    assert found.placement == Config().sim.placement


def test_what_is_saved_is_read_back(tmp_path: Path) -> None:
    changed = load_config(
        overrides=["cluster=2x4:T4+1x8:A100", "env.train_load=null", "training.es.traces=[a, b]"]
    )
    save_config(changed, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == changed != Config()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["sim.rounds=3"], r"unknown setting 'sim.rounds'; known in sim: charge_first_start, "),
        (["speed=3"], r"unknown setting 'speed'; known in the configuration: cluster, "),
        (["sim.round_s=0"], r"setting sim.round_s=0: Input should be greater than 0"),
        (["env=&a {b: *a}"], r"configuration: a section of settings is within itself"),
        (["seed=1", "seed.x=2"], r"setting 'seed' is a section of settings, not 1"),
        (["=3"], r"--set '=3': write it as key=value"),
        (["workload.split=[0.5, 0.2, 0.2]"], r"setting workload=.*: split must sum to 1"),
        (["env.train_weights=[slowdown, slowdown]"], r"env.train_weights=.*: name each term once"),
        (["env.agents=learned", "training.algo=dqn"], r"configuration: --agents learned is "),
    ],
)
def test_bad_settings_are_named(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_config(overrides=overrides)


@pytest.mark.parametrize(
    "value", ["2020-99-99", "!!bool maybe", "!!timestamp soon", "!!int many", "[" * 5000]
)
def test_a_value_that_yaml_cannot_make_is_text(value: str) -> None:
    assert load_config(overrides=[f"cluster={value}"]).cluster == value


@pytest.mark.parametrize("value", ["2020-99-99", "!!bool maybe", "!!timestamp soon", "[" * 5000])
def test_a_file_with_such_a_value_is_named(value: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(f"cluster: {value}\n")
    with pytest.raises(UserError, match=rf"configuration file {file}: not YAML: .+"):
        load_config(file)


def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"configuration file .*: is a folder"):
        load_config(tmp_path)
    with pytest.raises(UserError, match=r"configuration file .*: no such file"):
        load_config(tmp_path / "mine.yaml")
    (tmp_path / "mine.yaml").write_text("seed: 1\n")

    def refuse(self: Path, mode: str) -> None:  # an administrator may read every file
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UserError, match=r"mine.yaml: cannot be read: Permission denied"):
        load_config(tmp_path / "mine.yaml")


@pytest.mark.parametrize(
    "setting",
    [
        "sim.round_s=1.0e-300",
        "sim.round_s=1.0e+300",
        "sim.node_mtbf_h=1.0e-300",
        "sim.node_mttr_h=1.0e+300",
        "sim.job_mtbf_h=1.0e-300",
        "sim.restart_scale=1.0e+300",
        "sim.checkpoint_interval_s=1.0e+300",
        "sim.cross_rack_rate=1.0e-300",
        "sim.max_retries=99999999999999999999",
        "workload.elastic_max_factor=99999999999999999999",
        "workload.burstiness=1.0e-300",
        "workload.synthetic.num_jobs=99999999999",
        "workload.synthetic.load=1.0e-300",
        "workload.synthetic.sigma=1.0e+300",
        "workload.synthetic.median_duration_s=1.0e+300",
        "workload.synthetic.max_duration_s=1.0e-300",
        "seed=99999999999999999999",
        f"seed={'9' * 5000}",
    ],
)
def test_numbers_that_nothing_would_come_to_an_end_with(setting: str) -> None:
    with pytest.raises(UserError, match=rf"setting {setting.partition('=')[0]}=") as caught:
        load_config(overrides=[setting])
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("sim.tenant_quota={a: 1, a: 2}", "--set .*: key 'a' is there twice"),
        ("sim.tenant_quota={7: 1}", "--set .*: the key 7 is no text; write it in quotes, as '7'"),
        ("seed=" + "x" * 70_000, "setting seed='xxx"),
        ("x" * 70_000, "--set 'xxx.*: write it as key=value"),
        ("x" * 70_000 + "=1", "unknown setting 'xxx"),
        (".".join("a" * 200) + "=1", "no setting is within so many others"),
    ],
)
def test_options_that_are_refused_in_few_words(value: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load_config(overrides=[value])
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\nsim: {round_s: 2}\nseed: 3\n", "not YAML: line 3: key 'seed' is there twice"),
        ("sim:\n  tenant_quota:\n    1: 2\n", "the key 1 is no text"),
        ("a: &a [1,1,1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,"
         "*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: [*d,*d,*d,*d,*d,*d,*d,*d,*d"
         ",*d]\n", "not YAML: line 5: stands for more than 100,000 values"),
        ("sim: &a {x: *a}\n", "a section of settings is within itself"),
    ],
)  # fmt: skip
def test_files_whose_mistakes_would_go_unseen(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=f"configuration file {file}: {message}"):
        load_config(file)
    with pytest.raises(UserError, match="/dev/zero: is no regular file"):
        load_config(Path("/dev/zero"))


def test_an_error_names_where_it_comes_from() -> None:
    with pytest.raises(UserError, match=r"^page\.py: unknown setting 'env\.x'"):
        validate_config({"env": {"x": 1}}, where="page.py")


def test_nested_data_by_one_name_each() -> None:
    data = {"a": {"b": 1, "c": {}}, "d": [2]}
    assert config.flat(data) == {"a.b": 1, "a.c": {}, "d": [2]}
    assert config.flat(data, ": ") == {"a: b": 1, "a: c": {}, "d": [2]}


def test_every_section_is_imported_from_the_package() -> None:
    sections = [value for _, value in Config() if isinstance(value, BaseModel)]
    assert len(sections) == 6
    for section in sections:
        assert getattr(config, type(section).__name__) is type(section)
        assert type(section).__name__ in config.__all__
