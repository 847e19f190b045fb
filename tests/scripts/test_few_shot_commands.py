"""Few-shot runs on the command line and from a script: train, resume, evaluate, load, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import metarl
from metarl.few_shot.run import FewShotRun
from metarl.storage import read_tensors

SMALL = ("--tasks", "4", "--eval-every", "0", "--checkpoint-every", "2", "--track", "none", "--agent.no-anneal")
TRAIN = ("train", "maml", "sinusoid", *SMALL)


def error_of(err: str) -> str:
    (line,) = [line for line in err.splitlines() if line.startswith("metarl: error:")]
    assert "Traceback" not in err
    return line


@pytest.fixture
def run(run_metarl, tmp_path: Path) -> Path:
    """A short run of maml on sinusoids."""
    out = tmp_path / "run"
    assert run_metarl(*TRAIN, "--out", out, "--iterations", "4")[0] == 0
    return out


def test_a_run_records_everything_that_a_loaded_learner_needs(run: Path) -> None:
    saved = FewShotRun.read(run)
    assert (saved.agent, saved.family) == ("maml", "sinusoid")
    assert json.loads(json.dumps(saved.to_json())) == json.loads((run / "config.json").read_text())
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert {"error/0", "error/1", "update/loss"} <= set(rows[0])
    assert rows[-1]["env_steps"] == 4 * 4 * 20
    assert (run / "training.png").stat().st_size > 1000
    learner = metarl.load(run)
    family = metarl.find_family("sinusoid")
    result = metarl.evaluate_shots(learner, family, family.distribution.held_out(3), metarl.Streams(0), shots=(0, 10))
    assert result.scores.shape == (3, 2)


def test_a_resumed_run_equals_one_that_was_not_interrupted(run_metarl, run: Path, tmp_path: Path) -> None:
    short = tmp_path / "short"
    assert run_metarl(*TRAIN, "--out", short, "--iterations", "2")[0] == 0
    code, _, err = run_metarl(*TRAIN, "--out", short, "--iterations", "4", "--resume")
    assert code == 0
    assert "resuming after iteration 2" in err
    ends = [read_tensors(path / "checkpoints" / "0000004.safetensors")[0] for path in (run, short)]
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_evaluations_of_a_training_leave_it_as_it_is(run_metarl, run: Path, tmp_path: Path) -> None:
    other = tmp_path / "evaluated"
    words = [*TRAIN, "--out", other, "--iterations", "4", "--eval-every", "2", "--eval-tasks", "3"]
    assert run_metarl(*words)[0] == 0
    ends = [read_tensors(path / "checkpoints" / "0000004.safetensors")[0] for path in (run, other)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    last = json.loads((other / "metrics.jsonl").read_text().splitlines()[-1])
    assert {"evaluation/error/0", "evaluation/error/1"} <= set(last)


def test_evaluate_draws_the_curves_of_a_learner_and_of_its_references(run_metarl, run: Path, tmp_path: Path) -> None:
    pooled = tmp_path / "pooled"
    assert run_metarl("train", "pooled", "sinusoid", *SMALL, "--out", pooled, "--iterations", "2")[0] == 0
    code, out, _ = run_metarl("evaluate", run, "--reference", pooled, "--tasks", "5", "--json")
    assert code == 0
    summary = json.loads(out.splitlines()[-1])
    assert (summary["score"], summary["tasks"], summary["split"]) == ("error", 5, "test")
    first, second = summary["learners"]
    assert [point["shots"] for point in first["over_shots"]] == [0, 1, 2, 3, 5, 10]
    assert [point["steps"] for point in first["over_steps"]] == list(range(11))
    assert second["learner"] == "pooled"
    assert set(summary["differences"]) == {"pooled", "pooled, not adapting", "before adaptation"}
    written = json.loads((run / "evaluation" / "evaluation.json").read_text())
    scores = {label: np.array(values) for label, values in written["scores"].items()}
    assert first["over_shots"][-1]["mean"] == pytest.approx(scores["maml"][:, -1].mean())
    expected = (scores["maml"][:, -1] - scores["pooled"][:, 0]).mean()
    assert summary["differences"]["pooled, not adapting"]["mean"] == pytest.approx(expected)
    assert summary["oracle"]["mean"] == pytest.approx(np.mean(written["scores_of_oracle"]))
    assert (run / "evaluation" / "adaptation.png").stat().st_size > 10_000
    table = (run / "evaluation" / "adaptation.csv").read_text().splitlines()
    assert len(table) == 1 + 2 * (6 + 11) + 1
    assert "oracle, fitted to 1,000 shots of the task itself" in out
    assert run_metarl("evaluate", run, "--tasks", "2", "--no-oracle", "--shots", "3")[0] == 0
    assert (run / "evaluation-2").is_dir(), "earlier results are not overwritten"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("train", "rl2", "sinusoid"), "unknown few-shot learner 'rl2'. There is the agent 'rl2', for a family:"),
        (("train", "pooled", "point-robot"), "unknown agent 'pooled'. There is the few-shot learner 'pooled', for a"),
        (("train", "maml", "sinusoid:ways=2"), "family 'sinusoid': got 'ways=2', expected options such as shots=10"),
        (("train", "maml", "sinusoid:shots=0"), "family 'sinusoid': got option 'shots=0', expected shots=INT >= 1"),
        (("train", "maml", "sinusoids"), "unknown family 'sinusoids'. Did you mean 'sinusoid'?"),
        (("train", "maml", "sinusoid", "--episodes", "3"), "unknown: --episodes"),
        (("train", "maml", "sinusoid", "--agent.inner-steps", "0"), "agent.inner_steps: got 0"),
        (("train", "maml", "sinusoid", "--tasks", "100000"), "memory"),
        (("bench", "rollout", "--family", "sinusoid"), "a few-shot family, whose tasks have examples"),
        (("check", "sinusoid"), "a few-shot family, whose tasks have examples"),
    ],
)
def test_bad_words_end_with_one_line_and_code_2(run_metarl, tmp_path: Path, words, said: str, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    if "100000" in words:
        monkeypatch.setattr("metarl.memory.free_memory", lambda: 1e6)
    code, _, err = run_metarl(*words)
    assert code == 2
    assert said in error_of(err)
    assert not list(tmp_path.iterdir()), "nothing was written"


def test_commands_for_episodes_refuse_a_few_shot_run(run_metarl, run: Path, tmp_path: Path) -> None:
    for words, instead in (
        (("compare", run), "few-shot runs are compared by metarl evaluate"),
        (
            ("render", run, "--out", tmp_path / "film.mp4"),
            "a few-shot run has no episodes to film; metarl evaluate",
        ),
        (("export", run, "--out", tmp_path / "robot"), "a few-shot learner has no policy to export; metarl.load(RUN)"),
    ):
        code, _, err = run_metarl(*words)
        assert code == 2
        assert f"got a few-shot run, expected one on episodes; {instead}" in error_of(err)
    code, _, err = run_metarl("evaluate", run, "--shots", "5000")
    assert code == 2
    assert "--shots: got 5000, expected 0 to 1,000" in error_of(err)
    code, _, err = run_metarl("evaluate", run, "--family", "point-robot")
    assert code == 2
    assert "a family of environments, expected a few-shot family" in error_of(err)
    other = tmp_path / "other"
    assert run_metarl("train", "maml", "sinusoid:shots=5", *SMALL, "--out", other, "--iterations", "2")[0] == 0
    code, _, err = run_metarl("evaluate", run, "--reference", other)
    assert code == 2
    assert "expected a run on 'sinusoid'" in error_of(err)


def test_a_changed_setting_is_not_resumed(run_metarl, run: Path) -> None:
    code, _, err = run_metarl(*TRAIN, "--out", run, "--resume", "--agent.inner-lr", "0.5")
    assert code == 2
    assert "differs from that of" in error_of(err)
    code, _, err = run_metarl("train", "maml", "sinusoid:shots=5", *SMALL, "--out", run, "--resume")
    assert code == 2
    assert "family (there 'sinusoid')" in error_of(err)


OWN = """
import numpy as np
import metarl
from metarl.agents.few_shot.maml import Maml

class Mine(Maml):
    summary = "mine"

def lines():
    def draw(tasks, shots, queries, rng):
        x = rng.standard_normal((len(tasks), 1, shots + queries, 2))
        slope = np.array([task["slope"] for task in tasks])[:, None, None]
        y = (x * slope).sum(axis=-1, keepdims=True)
        cut = lambda a, b: metarl.Shots(x[:, :, a:b].astype(np.float32), y[:, :, a:b].astype(np.float32))
        return cut(0, shots), cut(shots, shots + queries)

    slope = metarl.uniform("slope", -1.0, 1.0, size=2, meaning="slope")
    return metarl.FewShotFamily(
        name="lines",
        summary="linear functions",
        distribution=metarl.ContinuousTasks("lines", (slope,)),
        spaces=metarl.ShotSpaces(x_shape=(2,), y_size=1, classification=False, shots=5, queries=5),
        draw=draw,
    )
"""


def test_own_families_and_learners_work_as_registered_ones_do(run_metarl, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "my_shots.py").write_text(OWN)
    words = ("train", "my_shots:Mine", "my_shots:lines", *SMALL, "--iterations", "2", "--out", "run")
    assert run_metarl(*words)[0] == 0
    code, _, err = run_metarl("evaluate", "run", "--agent", "my_shots:Mine")
    assert code == 2
    assert "is code of your own; name it again with --family" in error_of(err)
    code, _, err = run_metarl("evaluate", "run", "--family", "my_shots:lines")
    assert code == 2
    assert "name it with --agent my_shots:Mine" in error_of(err)
    named = ("--agent", "my_shots:Mine", "--family", "my_shots:lines")
    assert run_metarl("evaluate", "run", *named, "--tasks", "2", "--no-oracle")[0] == 0


def test_a_script_trains_and_resumes_by_the_same_door(tmp_path: Path) -> None:
    how = {"tasks": 3, "eval_every": 0, "track": "none", "out": tmp_path / "run"}
    trained = metarl.train("maml", "sinusoid", iterations=2, inner_lr=0.02, **how)
    assert trained.progress.iteration == 2
    assert trained.agent.config.inner_lr == 0.02
    more = metarl.train("maml", "sinusoid", iterations=3, resume=True, **how)
    assert more.progress.iteration == 3
    with pytest.raises(ValueError, match="unknown few-shot learner 'rl2'"):
        metarl.train("rl2", "sinusoid", iterations=1)
    with pytest.raises(ValueError, match="settings: got 'episodes'"):
        metarl.train("maml", "sinusoid", iterations=1, episodes=3)
    with pytest.raises(ValueError, match="got a few-shot family, whose tasks have examples"):
        metarl.make_family("sinusoid")


def test_list_has_learners_and_families(run_metarl) -> None:
    code, out, _ = run_metarl("list", "--json")
    assert code == 0
    found = json.loads(out.splitlines()[-1])
    assert {"maml", "pooled"} <= {row["name"] for row in found["few_shot_learners"]}
    assert "sinusoid" in {row["name"] for row in found["few_shot_families"]}
    assert not found["broken"]


def test_a_family_that_a_script_passed_is_named_to_evaluate_its_run(run_metarl, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "my_lines.py").write_text(OWN)
    import my_lines

    metarl.train("maml", my_lines.lines(), iterations=2, tasks=2, eval_every=0, track="none", out="run")
    code, _, err = run_metarl("evaluate", "run")
    assert code == 2
    assert "the run's family 'lines' is not registered; name it as module:function" in error_of(err)
    assert run_metarl("evaluate", "run", "--family", "my_lines:lines", "--tasks", "2", "--no-oracle")[0] == 0


def test_a_class_or_a_family_of_the_other_kind_is_named(run_metarl, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "my_kinds.py").write_text(f"{OWN}\nfrom metarl.agents.rl2 import Rl2\n")
    code, _, err = run_metarl("train", "my_kinds:Mine", "point-robot")
    assert code == 2
    assert "got a few-shot learner (it has predict), expected an agent that acts in episodes" in error_of(err)
    code, _, err = run_metarl("train", "my_kinds:Rl2", "sinusoid")
    assert code == 2
    assert "got a class without predict, expected one that inherits from metarl.FewShotLearner" in error_of(err)
    few_shot, robots = metarl.find_family("sinusoid"), metarl.find_family("point-robot")
    learner = metarl.make_agent("maml", few_shot.spaces)
    with pytest.raises(ValueError, match=r"expected a metarl\.Family; else metarl\.evaluate_shots"):
        metarl.evaluate(learner, few_shot, few_shot.distribution.held_out(1), metarl.Streams(0))
    with pytest.raises(ValueError, match=r"expected a metarl\.FewShotFamily; see metarl\.evaluate"):
        metarl.evaluate_shots(learner, robots, robots.distribution.held_out(1), metarl.Streams(0), shots=(1,))
