from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import metarl
from metarl.envs.metaworld.families import BenchmarkTasks
from metarl.few_shot.run import ShotsTrainConfig
from metarl.presets import settings_from_preset
from metarl.registry import FAMILIES, FEW_SHOT_FAMILIES, LEARNERS, agent_class, make_family, names
from metarl.runs import TrainConfig
from metarl.scripts.presets import META_WORLD_STEPS, PRESETS, PUBLISHED, default_settings
from metarl.tasks import DiscreteTasks

MODELS = Path(__file__).resolve().parents[1] / "robots" / "models"
ROBOTS = {
    "robot-walk": f"mjcf:{MODELS}/torque_quadruped.xml",
    "robot-reach": f"mjcf:{MODELS}/gravity_compensated_arm.xml",
    "robot-hold": "menagerie:some_robot?task=hold",
    "robot-own": "menagerie:some_robot?task=my_reward:still",
}
"""A robot's family for each name in the tables of presets."""


def test_version_and_help(run_metarl) -> None:
    assert run_metarl("--version") == (0, f"metarl {metarl.__version__}\n", "")
    code, out, _ = run_metarl("--help")
    assert code == 0
    for command in ("train", "evaluate", "list", "bench"):
        assert command in out
        code, shown, _ = run_metarl(command, "--help")
        assert code == 0
        assert "usage" in shown
    assert run_metarl()[0] == 2


def test_list_names_agents_families_and_presets(run_metarl) -> None:
    code, out, _ = run_metarl("list", "--json")
    value = json.loads(out.splitlines()[-1])
    assert code == 0
    agents = {"maml-trpo", "fomaml", "meta-sgd", "reptile", "promp", "rl2", "varibad", "pearl", "multitask", "oracle"}
    agents |= {"rma", "recurrent-sac", "meta-lstm", "gbml", "meta-networks", "mb-mpc", "grbal", "rebal"}
    assert agents == {a["name"] for a in value["agents"]}
    families = {f["name"]: f for f in value["families"]}
    assert {"point-robot", "half-cheetah-vel", "ant-goal", "walker2d-rand-params", "bandit"} <= set(families)
    assert families["half-cheetah-dir"]["splits"] is False
    assert families["point-robot"]["parameters"][0]["hidden"] is True
    assert {"gym:", "mjcf:", "menagerie:"} <= {one["name"] for one in value["schemes"]}
    assert len(value["presets"]) == len(PRESETS) + len(PUBLISHED)
    code, out, _ = run_metarl("list")
    assert code == 0
    assert "half-cheetah-vel" in out


@pytest.mark.parametrize(("agent", "family"), list(PRESETS))
def test_presets_name_what_exists_and_their_source(agent: str, family: str) -> None:
    if family in names(FEW_SHOT_FAMILIES):
        kind = agent_class(agent, LEARNERS)
        _, config = settings_from_preset(agent, family, "default", kind, ShotsTrainConfig)
        assert isinstance(config, kind.Config)
        assert PRESETS[agent, family].source
        return
    if family.startswith("robot-"):
        kind = agent_class(agent)
        _, config = settings_from_preset(agent, ROBOTS[family], "default", kind, TrainConfig)
        assert config == replace(kind.Config(), **PRESETS[agent, family].agent)
        assert PRESETS[agent, family].source
        return
    assert make_family(family).name == family
    training, config = default_settings(agent, family)
    assert isinstance(config, agent_class(agent).Config)
    assert PRESETS[agent, family].source
    if family in META_WORLD_STEPS:
        trial = {"maml-trpo": 2, "rl2": 10, "multitask": 1, "oracle": 1}
        collects = config.adaptation_steps + 1 if agent == "pearl" else trial[agent]
        steps = training.tasks * training.episodes * collects * 500
        assert training.iterations * steps == META_WORLD_STEPS[family]
    elif agent == "maml-trpo":
        assert (training.tasks, training.episodes) == (20, 20)
        assert config.action_scale == (10.0 if family.startswith("half-cheetah") else 1.0)


def test_pearl_has_a_preset_with_the_published_sizes() -> None:
    training, config = default_settings("pearl", "half-cheetah-vel-3", "published")
    assert (config.hidden, config.encoder_hidden, config.latent) == ((300, 300, 300), (200, 200, 200), 5)
    assert (config.meta_batch, config.batch, config.context_batch) == (16, 256, 100)
    assert (config.gradient_steps, config.learning_rate, config.reward_scale) == (2000, 3e-4, 5.0)
    assert (config.gamma, config.tau, config.kl_weight, config.tune_temperature) == (0.99, 0.005, 0.1, False)
    assert (training.train_tasks, training.tasks, training.horizon) == (100, 5, 200)
    steps = training.tasks * training.episodes * (config.adaptation_steps + 1) * training.horizon
    assert 2_700_000 <= training.iterations * steps <= 3_000_000
    stored = steps * training.iterations / training.train_tasks
    assert stored <= config.replay_size, "nothing is overwritten"
    assert PUBLISHED["pearl", "half-cheetah-vel-3"].source
    with pytest.raises(ValueError, match=r"--preset: got 'published' for rl2 on bandit, expected default; there is"):
        default_settings("rl2", "bandit", "published")


def test_the_page_of_families_lists_them_all_with_their_horizons() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "families.md").read_text(encoding="utf-8")
    tables = page.partition("## Observations of a robot")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in tables.splitlines() if line[:3] == "| `"]
    assert {row[0].strip("`"): int(row[-2]) for row in rows} == {n: make_family(n).horizon for n in names(FAMILIES)}
    tasks = {row[0].strip("`"): row[2] for row in rows}
    for name in names(FAMILIES):
        distribution = make_family(name).distribution
        enumerated = isinstance(distribution, DiscreteTasks | BenchmarkTasks)
        kind = ("split" if distribution.splits else "too few") if enumerated else "drawn"
        assert tasks[name] == kind, name


@pytest.mark.parametrize("family", ["point-robot", "hopper-vel", "bandit:arms=3,pulls=4"])
def test_bench_rollout_prints_its_keys(run_metarl, family: str) -> None:
    words = ("bench", "rollout", "--family", family, "--tasks", "2", "--episodes", "2", "--rounds", "1", "--json")
    code, out, err = run_metarl(*words, "--workers", "0")
    assert code == 0, err
    value = json.loads(out.splitlines()[-1])
    physics = {"physics_limit", "fraction_of_limit"}
    others = {"env_steps_per_s", "sync_env_steps_per_s", "async_env_steps_per_s", "ratio_vs_sync", "ratio_vs_async"}
    others |= {"tasks_s", "make_envs_s", "set_tasks_ms", "reset_ms", "peak_mib", "cores", "blocks"}
    assert {"family", "tasks", "episodes", "workers", "rows"} | physics | others == set(value)
    for key in others | (physics if family == "hopper-vel" else set()):
        assert value[key] > 0, key
    for ratio, other in (("ratio_vs_sync", "sync_env_steps_per_s"), ("ratio_vs_async", "async_env_steps_per_s")):
        assert value[ratio] == pytest.approx(value["env_steps_per_s"] / value[other], rel=1e-3, abs=1e-4)
    if family == "hopper-vel":
        speeds = value["env_steps_per_s"], value["physics_limit"]
        assert value["fraction_of_limit"] == pytest.approx(speeds[0] / speeds[1], rel=1e-3, abs=1e-4)
    else:
        assert {value[key] for key in physics} == {None}


def test_bench_rollout_prints_and_draws_the_speed_by_number_of_workers(run_metarl, tmp_path: Path) -> None:
    words = ("bench", "rollout", "--family", "hopper-vel", "--tasks", "2", "--episodes", "2", "--horizon", "20")
    words += ("--rounds", "1", "--workers", "1", "0", "--no-processes", "--out", "speed.png")
    code, out, err = run_metarl(*words)
    assert code == 0, err
    assert Path("speed.png").read_bytes().startswith(b"\x89PNG")
    lines = [line.split() for line in out.splitlines()]
    table = lines[lines.index(["workers", "cores", "env_steps_per_s", "physics_limit", "fraction_of_limit"]) :]
    assert [line[0] for line in table] == ["workers", "0", "1", "picture:"]
    code, _, err = run_metarl(*words)
    assert code == 2
    assert "speed.png, which exists already" in err, "nothing is overwritten"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--out", "speed.pdf"), "ends in .png"),
        (("--out", "nowhere/speed.png"), "does not exist"),
        (("--out", "speed.png", "--family", "all"), "expected one family"),
        (("--workers", "-1"), "workers"),
    ],
)
def test_bench_rollout_refuses_before_it_measures(run_metarl, words: tuple[str, ...], complaint: str) -> None:
    code, _, err = run_metarl("bench", "rollout", *words)
    assert code == 2
    (line,) = err.splitlines()
    assert complaint in line


def test_bench_over_all_families_prints_one_table(run_metarl, monkeypatch) -> None:
    def measured(family, command):
        physics = 0.875 if family.name == "hopper-vel" else None
        figures = {"fraction_of_limit": physics, "ratio_vs_sync": 2.0, "ratio_vs_async": 5.5}
        figures |= {"workers": 2, "cores": 4, "physics_limit": physics and 14109.3}
        assert make_family(command.family).name == family.name, "workers make the same family"
        return {"family": family.name, "env_steps_per_s": 12345.678, **figures}

    monkeypatch.setattr("metarl.scripts.bench.rollout.bench_rollout", measured)
    code, out, _ = run_metarl("bench", "rollout", "--family", "all")
    assert code == 0
    title, *rows = (line.split() for line in out.splitlines())
    speeds = ["workers", "cores", "env_steps_per_s", "physics_limit", "fraction_of_limit"]
    assert title == ["family", *speeds, "ratio_vs_sync", "ratio_vs_async"]
    assert [row[0] for row in rows] == names(FAMILIES)
    assert ["hopper-vel", "2", "4", "12,346", "14,109", "0.88", "2.00", "5.50"] in rows
    assert ["point-robot", "2", "4", "12,346", "-", "-", "2.00", "5.50"] in rows
    assert len({len(line) for line in out.splitlines()}) == 1, "columns are aligned"
    code, out, _ = run_metarl("bench", "rollout", "--family", "all", "--json")
    assert [row["family"] for row in json.loads(out.splitlines()[-1])] == names(FAMILIES)
    code, out, _ = run_metarl("bench", "rollout", "--family", "ml1:all", "--json")
    classes = [row["family"] for row in json.loads(out.splitlines()[-1])]
    assert len(classes) == 50
    assert {"ml1", "ml1:door-open-v3"} < set(classes), "ml1 is that of reach"


def test_bench_of_a_part_of_meta_worlds_episodes_is_not_compared_with_its_own_environments(run_metarl) -> None:
    words = ("bench", "rollout", "--family", "ml1", "--tasks", "2", "--episodes", "1", "--rounds", "1", "--json")
    code, out, err = run_metarl(*words, "--horizon", "20", "--workers", "0")
    assert code == 0, err
    value = json.loads(out.splitlines()[-1])
    assert value["fraction_of_limit"] > 0
    assert value["ratio_vs_sync"] is None
