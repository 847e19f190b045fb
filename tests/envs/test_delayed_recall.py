from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from metarl.registry import make_family
from metarl.scripts.reference.environments import DelayedRecallEnv
from metarl.tasks import split_name, told_parameters
from metarl.types import Floats, Spaces, Task, TaskParameter
from metarl.vector import TaskVecEnv

DELAY, CUES = 6, 3
NAME = f"delayed-recall:delay={DELAY},cues={CUES}"


def ready(episodes: int) -> TaskVecEnv:
    """Environments of all tasks, before their first reset."""
    family = make_family(NAME)
    envs = family.make_envs(CUES, episodes, family.horizon)
    envs.set_tasks(family.distribution.train_tasks(CUES))
    return envs


def episode(envs: TaskVecEnv, choose: Callable[[Floats], Floats], seed: int) -> tuple[Floats, Floats, Floats]:
    """Observations `[N, L + 2, O]`, rewards and successes `[N, L + 1]` of an episode."""
    seen, _ = envs.reset(seed=seed)
    observations, rewards, successes = [seen], [], []
    truncated = np.zeros(envs.num_envs, dtype=np.bool_)
    while not truncated.any():
        seen, reward, terminated, truncated, infos = envs.step(choose(seen))
        assert not terminated.any()
        observations.append(seen)
        rewards.append(reward)
        successes.append(infos["success"])
    assert truncated.all()
    return tuple(np.stack(arrays, axis=1) for arrays in (observations, rewards, successes))  # type: ignore[return-value]


def test_the_cue_is_shown_once_and_asked_for_at_the_last_step() -> None:
    envs = ready(4)
    for seed in (0, 1):  # in every episode
        observations, rewards, successes = episode(envs, lambda seen: np.zeros(len(seen), dtype=np.int64), seed)
        steps = observations[:, : DELAY + 1]
        assert rewards.shape == (CUES * 4, DELAY + 1)
        assert np.array_equal(steps[:, 0], np.eye(2 * CUES + 1)[np.repeat(np.arange(CUES), 4)])
        assert not steps[:, 1:, :CUES].any()
        assert steps[:, :, -1].tolist() == [[0.0] * DELAY + [1.0]] * len(steps)
        assert steps[:, :, CUES : 2 * CUES].sum(axis=-1).tolist() == [[0.0] + [1.0] * (DELAY - 1) + [0.0]] * len(steps)
        expected = np.zeros_like(rewards)
        expected[:4, -1] = 1.0  # the answer is always cue 0
        assert np.array_equal(rewards, expected)
        assert np.array_equal(successes, expected.astype(bool))


def test_distractors_are_uniform_and_of_no_use() -> None:
    """Each choice has its share at each step, whatever the cue and whatever the step before."""
    observations, *_ = episode(ready(3000), lambda seen: np.zeros(len(seen), dtype=np.int64), seed=0)
    shown = observations[:, 1:DELAY, CUES : 2 * CUES].argmax(axis=-1)  # [N, L - 1]
    for rows in np.split(shown, CUES):
        assert np.allclose(np.eye(CUES)[rows].mean(axis=0), 1 / CUES, atol=0.04)
    pairs = np.zeros((CUES, CUES))
    np.add.at(pairs, (shown[:, :-1].ravel(), shown[:, 1:].ravel()), 1.0)
    assert np.allclose(pairs / pairs.sum(), 1 / CUES**2, atol=0.01)


def test_guessing_is_right_once_in_as_many_times_as_there_are_cues_and_remembering_always() -> None:
    rng, envs = np.random.default_rng(0), ready(1000)
    _, rewards, successes = episode(envs, lambda seen: rng.integers(CUES, size=len(seen)), seed=0)
    assert rewards.sum(axis=1).mean() == successes.any(axis=1).mean() == pytest.approx(1 / CUES, abs=0.03)
    memory = np.zeros(envs.num_envs, dtype=np.int64)

    def remember(seen: Floats) -> Floats:
        cue = seen[:, :CUES]
        memory[cue.any(axis=1)] = cue.argmax(axis=1)[cue.any(axis=1)]
        return memory.copy()

    _, rewards, successes = episode(envs, remember, seed=1)
    assert rewards.sum() == successes.sum() == envs.num_envs


def test_it_equals_the_single_environment_but_for_the_distractors() -> None:
    for cue in range(CUES):
        single = DelayedRecallEnv(Task.of("delayed-recall", cue=cue), CUES, DELAY)
        family = make_family(NAME)
        envs = family.make_envs(1, 1, family.horizon)
        envs.set_tasks([Task.of("delayed-recall", cue=cue)])
        pairs = [(single.reset(seed=0)[0], envs.reset(seed=0)[0][0])]
        for action in (0, 1, 2, 1, 0, 2, 1):
            seen, reward, *_ = single.step(action)
            batch, rewards, *_ = envs.step(np.array([action]))
            assert reward == rewards[0]
            pairs.append((seen, batch[0]))
        for ours, plain in pairs[: DELAY + 1]:
            distractor = slice(CUES, 2 * CUES)
            assert np.array_equal(np.delete(ours, distractor), np.delete(plain, distractor))
            assert ours[distractor].sum() == plain[distractor].sum()


def test_the_horizon_moves_the_question() -> None:
    envs = make_family("delayed-recall").make_envs(1, 1, 3)
    envs.set_tasks([Task.of("delayed-recall", cue=2)])
    asked = [envs.reset(seed=0)[0][0, -1]]
    for _ in range(2):
        seen, reward, *_ = envs.step(np.array([2]))
        asked.append(seen[0, -1])
        assert reward[0] == 0.0
    assert asked == [0.0, 0.0, 1.0]
    assert envs.step(np.array([2]))[1][0] == 1.0


def test_the_cue_is_visible_told_to_an_oracle_and_the_same_in_training_and_evaluation() -> None:
    family = make_family("delayed-recall")
    (parameter,) = family.distribution.parameters
    assert (parameter.hidden, parameter.categorical) == (False, True)
    assert told_parameters(family.distribution) == (TaskParameter("cue", 1, ((0.0,), (1.0,), (2.0,), (3.0,))),)
    assert split_name(family.distribution, "test") == "train"
    assert family.distribution.held_out() == family.distribution.train_tasks(10)
    spaces: Spaces = family.spaces()
    assert (spaces.observation_size, spaces.choices, spaces.horizon) == (9, 4, 51)


@pytest.mark.parametrize("options", ["delay=0", "cues=101", "length=3", "delay=2,delay=3"])
def test_options_that_make_no_sense_are_refused(options: str) -> None:
    with pytest.raises(ValueError, match="family 'delayed-recall': got option"):
        make_family(f"delayed-recall:{options}")


@pytest.mark.slow
def test_a_gru_learns_to_recall_with_the_preset(run_metarl, tmp_path: Path) -> None:
    code, _, err = run_metarl("train", "rl2", "delayed-recall", "--workers", "0", "--out", "run")
    assert code == 0, err
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text("utf-8").splitlines()]
    assert lines[0]["success/0"] == pytest.approx(0.25, abs=0.1)
    assert np.mean([line["success/0"] for line in lines[-10:]]) > 0.95
