from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from metarl.checkpoint import UnfitError, _digest, list_checkpoints, load_checkpoint, load_newest, save_checkpoint
from metarl.files import read_json, remove_partial, write_bytes, write_json
from metarl.seeding import Streams
from metarl.storage import read_tensors, write_tensors
from metarl.types import Progress


@pytest.fixture
def saved(tmp_path: Path, make_agent) -> Path:
    """Three checkpoints, of iterations 1 to 3, made by agents of seeds 1 to 3."""
    for i in (1, 2, 3):
        streams = Streams(i)
        streams.policy.random(i)
        save_checkpoint(tmp_path, make_agent(i), streams, Progress(i, 100 * i), keep=3)
    return tmp_path


def test_everything_comes_back(saved: Path, make_agent) -> None:
    agent, streams = make_agent(9), Streams(9)
    progress, complaints = load_newest(saved, agent, streams)
    expected = Streams(3)
    expected.policy.random(3)
    assert (progress, complaints) == (Progress(3, 300), [])
    assert streams.state() == expected.state()
    for name, tensor in make_agent(3).tensors().items():
        assert torch.equal(agent.tensors()[name], tensor), name


def test_names_are_zero_padded_and_at_least_two_are_kept(tmp_path: Path, make_agent) -> None:
    for i in range(5):
        save_checkpoint(tmp_path, make_agent(), Streams(0), Progress(i, 0), keep=1)
    assert [p.name for p in list_checkpoints(tmp_path)] == ["0000003.safetensors", "0000004.safetensors"]


@pytest.mark.parametrize("where", ["tail", "header", "middle", "empty", "one bit"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(saved: Path, make_agent, where: str) -> None:
    newest = list_checkpoints(saved)[-1]
    data = bytearray(newest.read_bytes())
    if where == "tail":
        data = data[:-7]
    elif where == "header":
        data[5:40] = b"x" * 35
    elif where == "middle":
        data = data[: len(data) // 2]
    elif where == "empty":
        data = bytearray()
    else:
        data[-3] ^= 1
    newest.write_bytes(data)
    agent = make_agent(9)
    progress, complaints = load_newest(saved, agent, Streams(9))
    assert progress == Progress(2, 200)
    assert len(complaints) == 1
    assert "0000003" in complaints[0]
    assert "falling back" in complaints[0]
    assert torch.equal(agent.tensors()["parameters"], make_agent(2).tensors()["parameters"])


def test_an_altered_counter_is_noticed(saved: Path, make_agent) -> None:
    path = list_checkpoints(saved)[-1]
    tensors, description = read_tensors(path)
    description["state"]["env_steps"] += 1
    write_tensors(path, tensors, description)
    with pytest.raises(ValueError, match="checksum"):
        load_checkpoint(path, make_agent())


def test_a_checkpoint_of_another_network_is_refused_and_changes_nothing(saved: Path, make_agent) -> None:
    agent = make_agent(0, hidden=(7,))
    before = agent.tensors()["parameters"].clone()
    with pytest.raises(UnfitError, match=r"0000003.safetensors: got a whole checkpoint that does not fit the agent"):
        load_newest(saved, agent)
    assert torch.equal(agent.tensors()["parameters"], before)


def test_no_checkpoint_is_no_error(tmp_path: Path, make_agent) -> None:
    assert load_newest(tmp_path, make_agent()) == (None, [])


def test_a_full_disk_leaves_the_old_checkpoints_and_no_debris(
    saved: Path, make_agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = {p.name: p.read_bytes() for p in saved.iterdir()}
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(saved, make_agent(), Streams(0), Progress(4, 0), keep=3)
    assert {p.name: p.read_bytes() for p in saved.iterdir()} == before


def test_half_written_files_are_ignored_and_removed(saved: Path, make_agent) -> None:
    debris = saved / ".0000009.safetensors.123.partial"
    debris.write_bytes(b"half")
    (saved / ".keep").write_bytes(b"the user's")
    assert load_newest(saved, make_agent())[0] == Progress(3, 300)
    remove_partial(saved)
    assert not debris.exists()
    assert (saved / ".keep").exists()


def test_json_and_tensors_refuse_what_they_did_not_write(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"x": [1, None]})
    assert read_json(tmp_path / "a.json") == {"x": [1, None]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", float("nan"))
    assert read_json(tmp_path / "a.json") == {"x": [1, None]}
    write_bytes(tmp_path / "b", b"\xff{")
    with pytest.raises(ValueError, match="not JSON"):
        read_json(tmp_path / "b")
    with pytest.raises(ValueError, match="did not write"):
        read_tensors(tmp_path / "b")


def test_adapted_policies_can_be_read_without_metarl(tmp_path: Path, make_agent) -> None:
    """The saved file alone gives the same action distribution."""
    import json

    from safetensors import safe_open

    agent = make_agent(4)
    state = agent.begin([None, None], 1)
    state.parameters[1] += 0.1
    agent.save_policy(state, tmp_path / "policy.safetensors", task=1)
    with safe_open(tmp_path / "policy.safetensors", framework="np") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        about = json.loads(file.metadata()["metarl"])
    x = np.random.default_rng(0).standard_normal(3).astype(np.float32)
    hidden = x
    for i in range(2):
        hidden = np.tanh(hidden @ weights[f"weight_{i}"] + weights[f"bias_{i}"])
    mean = hidden @ weights["weight_2"] + weights["bias_2"]
    ours = agent.policy(state.parameters[1:], torch.tensor(x).reshape(1, 1, 3))
    assert np.allclose(mean, ours.mean[0, 0].numpy(), atol=1e-6)
    assert np.allclose(weights["log_std"], ours.log_std[0, 0].numpy())
    assert about == {
        "format": 1,
        "distribution": "gaussian",
        "activation": "tanh",
        "layers": 3,
        "mean": "linear",
        "choices": 0,
        "first_choice": 0,
        "action_scale": 1.0,
        "bounded": [True, True],
        "normalise_observations": False,
        "normalisation": "clip((x - mean) / deviation, -10, 10)",
    }


def test_an_array_without_numbers_is_saved_and_read(tmp_path: Path) -> None:
    """Statistics of no numbers, as of a task whose parameters are all categories; NumPy gives them a stride of 0."""
    empty = torch.from_numpy(np.zeros((0,))[np.newaxis].mean(axis=0))
    strided = torch.empty(0, dtype=torch.float64).as_strided((0,), (0,))
    for i, tensor in enumerate((empty, strided)):
        assert _digest({"moments": tensor}, {}) == _digest({"moments": torch.zeros(0, dtype=torch.float64)}, {})
        write_tensors(tmp_path / f"{i}.safetensors", {"moments": tensor}, {})
        assert read_tensors(tmp_path / f"{i}.safetensors")[0]["moments"].shape == (0,)
