"""Embeddings and a cell: by hand, and a step against a pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from metarl.learning.networks.cells.settings import CellSettings
from metarl.learning.networks.sequence_encoder import Embedding, SequenceEncoder

PARTS = (Embedding(3, 5), Embedding(2, 4), Embedding(1, 3))


@pytest.fixture(params=["gru", "lstm"])
def encoder(request: pytest.FixtureRequest) -> SequenceEncoder[Any]:
    rng = np.random.default_rng(0)
    return SequenceEncoder[Any](PARTS, cell=CellSettings(cell=request.param, units=6), steps=4, rng=rng)


def test_each_part_of_the_input_has_a_layer_of_its_own(encoder: SequenceEncoder[Any]) -> None:
    x = torch.tensor(np.random.default_rng(1).standard_normal((2, 4, 6)), dtype=torch.float32)
    layers = [tuple(layer.parameters()) for layer in encoder.embeddings]
    assert [tuple(weight.shape) for weight, _ in layers] == [(5, 3), (4, 2), (3, 1)]
    parts = [x[..., :3], x[..., 3:5], x[..., 5:]]
    side_by_side = torch.cat(
        [(part @ w.T + b).clamp_min(0) for part, (w, b) in zip(parts, layers, strict=True)], dim=-1
    )
    expected, _ = encoder.cell(side_by_side, encoder.fresh_memory(2))
    torch.testing.assert_close(encoder(x, encoder.fresh_memory(2))[0], expected)
    assert expected.shape == (2, 4, 6)


@torch.no_grad()
def test_steps_equal_a_pass_and_the_memory_after_some_steps(encoder: SequenceEncoder[Any]) -> None:
    x = torch.tensor(np.random.default_rng(1).standard_normal((3, 4, 6)), dtype=torch.float32)
    features, _ = encoder(x, encoder.fresh_memory(3))
    memory, memories = encoder.fresh_memory(3), []
    for t in range(4):
        one, memory = encoder.step(x[:, t], memory)
        torch.testing.assert_close(one, features[:, t], rtol=1e-5, atol=1e-6)
        memories.append(memory)
    after = encoder.memory_after(x, encoder.fresh_memory(3), torch.tensor([4, 1, 2]))
    for name, tensor in encoder.exported_memory(after).items():
        each = [encoder.exported_memory(memories[steps - 1])[name] for steps in (4, 1, 2)]
        rows = torch.stack([each[row][..., row, :] for row in range(3)], dim=-2)
        torch.testing.assert_close(tensor, rows, rtol=1e-5, atol=1e-6)
    kept = encoder.keep(torch.tensor([True, False, True]), memories[1], memories[0])
    for name, tensor in encoder.exported_memory(kept).items():
        new, old = (encoder.exported_memory(m)[name] for m in (memories[1], memories[0]))
        assert torch.equal(tensor[..., [0, 2], :], new[..., [0, 2], :])
        assert torch.equal(tensor[..., 1, :], old[..., 1, :])
