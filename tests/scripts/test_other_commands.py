from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from gymnasium import spaces

import metarl
from metarl.envs.metaworld.families import BenchmarkTasks
from metarl.registry import FAMILIES, agent_class, make_family, names
from metarl.scripts.bench.rollout import TURN, time_episodes
from metarl.scripts.presets import META_WORLD_STEPS, PRESETS, PUBLISHED, default_settings
from metarl.tasks import DiscreteTasks
from metarl.types import Task
from metarl.vector import TaskVecEnv


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
    assert agents == {a["name"] for a in value["agents"]}
    families = {f["name"]: f for f in value["families"]}
    assert {"point-robot", "half-cheetah-vel", "ant-goal", "walker2d-rand-params", "bandit"} <= set(families)
    assert families["half-cheetah-dir"]["splits"] is False
    assert families["point-robot"]["parameters"][0]["hidden"] is True
    assert len(value["presets"]) == len(PRESETS) + len(PUBLISHED)
    code, out, _ = run_metarl("list")
    assert code == 0
    assert "half-cheetah-vel" in out


@pytest.mark.parametrize(("agent", "family"), list(PRESETS))
def test_presets_name_what_exists_and_their_source(agent: str, family: str) -> None:
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
    code, out, err = run_metarl(*words)
    assert code == 0, err
    value = json.loads(out.splitlines()[-1])
    physics = {"physics_steps_per_s", "fraction_of_physics"}
    others = {"env_steps_per_s", "sync_env_steps_per_s", "async_env_steps_per_s", "ratio_vs_sync", "ratio_vs_async"}
    others |= {"tasks_s", "make_envs_s", "set_tasks_ms", "reset_ms", "peak_mib"}
    assert {"family", "tasks", "episodes"} | physics | others == set(value)
    for key in others | (physics if family == "hopper-vel" else set()):
        assert value[key] > 0, key
    for ratio, other in (("ratio_vs_sync", "sync_env_steps_per_s"), ("ratio_vs_async", "async_env_steps_per_s")):
        assert value[ratio] == pytest.approx(value["env_steps_per_s"] / value[other], rel=1e-3, abs=1e-4)
    if family == "hopper-vel":
        speeds = value["env_steps_per_s"], value["physics_steps_per_s"]
        assert value["fraction_of_physics"] == pytest.approx(speeds[0] / speeds[1], rel=1e-3, abs=1e-4)
    else:
        assert {value[key] for key in physics} == {None}


def test_bench_over_all_families_prints_one_table(run_metarl, monkeypatch) -> None:
    def measured(family, command):
        physics = 0.875 if family.name == "hopper-vel" else None
        figures = {"fraction_of_physics": physics, "ratio_vs_sync": 2.0, "ratio_vs_async": 5.5}
        return {"family": family.name, "env_steps_per_s": 12345.678, **figures}

    monkeypatch.setattr("metarl.scripts.bench.rollout.bench_rollout", measured)
    code, out, _ = run_metarl("bench", "rollout", "--family", "all")
    assert code == 0
    title, *rows = (line.split() for line in out.splitlines())
    assert title == ["family", "env_steps_per_s", "fraction_of_physics", "ratio_vs_sync", "ratio_vs_async"]
    assert [row[0] for row in rows] == names(FAMILIES)
    assert ["hopper-vel", "12,346", "0.88", "2.00", "5.50"] in rows
    assert ["point-robot", "12,346", "-", "2.00", "5.50"] in rows
    assert len({len(line) for line in out.splitlines()}) == 1, "columns are aligned"
    code, out, _ = run_metarl("bench", "rollout", "--family", "all", "--json")
    assert [row["family"] for row in json.loads(out.splitlines()[-1])] == names(FAMILIES)
    code, out, _ = run_metarl("bench", "rollout", "--family", "ml1:all", "--json")
    classes = [row["family"] for row in json.loads(out.splitlines()[-1])]
    assert len(classes) == 50
    assert {"ml1", "ml1:door-open-v3"} < set(classes), "ml1 is that of reach"


def test_bench_of_a_part_of_meta_worlds_episodes_is_not_compared_with_its_own_environments(run_metarl) -> None:
    words = ("bench", "rollout", "--family", "ml1", "--tasks", "2", "--episodes", "1", "--rounds", "1", "--json")
    code, out, err = run_metarl(*words, "--horizon", "20")
    assert code == 0, err
    value = json.loads(out.splitlines()[-1])
    assert value["fraction_of_physics"] > 0
    assert value["ratio_vs_sync"] is None


class FallsAtOnce(TaskVecEnv):
    """Row i ends after i + 1 steps."""

    def __init__(self) -> None:
        super().__init__(1, 3, 10, spaces.Box(0, 0, (1,)), spaces.Box(-1, 1, (1,)))
        self.asked = 0

    def _apply_tasks(self, tasks) -> None: ...

    def _reset_rows(self, rows, rng) -> None: ...

    def _observe(self, rows):
        return np.zeros((len(rows), 1))

    def _step_rows(self, rows, actions):
        self.asked += len(rows)
        never = np.zeros(len(rows), dtype=bool)
        return np.zeros(len(rows)), self._elapsed[rows] >= rows, never, {}


class Stepped(FallsAtOnce):
    """Notes which rows the physics steps."""

    def __init__(self) -> None:
        super().__init__()
        self.stepped: list[list[int]] = []

    def set_controls(self, rows, actions):
        assert len(actions) == len(rows)

    def bare_physics(self, rows):
        self.stepped.append(rows.tolist())


def test_bench_counts_only_the_steps_of_live_rows() -> None:
    envs, twin = FallsAtOnce(), Stepped()
    for one in (envs, twin):
        one.set_tasks([Task.of("f", x=0)])
    ours, physics = time_episodes(envs, twin, np.zeros((10, 3, 1)), seed=0)
    assert envs.asked == 6
    assert twin.stepped == [[0, 1, 2], [1, 2], [2]]
    assert ours > 0
    assert physics is not None
    assert physics > 0
    assert time_episodes(envs, None, np.zeros((10, 3, 1)), seed=0)[1] is None


def test_bench_lets_ours_and_the_physics_take_turns(monkeypatch) -> None:
    turns: list[str] = []
    family = make_family("half-cheetah-vel")
    envs, twin = (family.make_envs(1, 1, TURN + 5) for _ in range(2))
    for one in (envs, twin):
        one.set_tasks(family.distribution.held_out(1))
    step, physics = envs.step, twin.bare_physics
    monkeypatch.setattr(envs, "step", lambda action: (turns.append("ours"), step(action))[1])
    monkeypatch.setattr(twin, "bare_physics", lambda rows: (turns.append("physics"), physics(rows))[1])
    time_episodes(envs, twin, np.zeros((TURN + 5, 1, 6)), seed=0)
    assert turns == ["ours"] * TURN + ["physics"] * TURN + ["ours"] * 5 + ["physics"] * 5
    envs.close()
    twin.close()
