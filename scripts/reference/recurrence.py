"""A recurrent layer as a Python loop over time."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Stepwise(nn.Module):
    """A GRU or LSTM that takes one step at a time, by torch's cell on the layer's own parameters.

    Args:
        layer: A single layer, batch first. Its parameters are shared and keep their names.
    """

    def __init__(self, layer: nn.GRU | nn.LSTM) -> None:
        super().__init__()
        kind = nn.GRUCell if isinstance(layer, nn.GRU) else nn.LSTMCell
        cell = kind(layer.input_size, layer.hidden_size, device="meta")
        for name, parameter in layer.named_parameters():
            self.register_parameter(name, parameter)
            setattr(cell, name.removesuffix("_l0"), parameter)
        self._cell = (cell,)  # within a tuple it is no submodule, which would list the parameters once more

    def forward(
        self, x: Tensor, memory: Tensor | tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor | tuple[Tensor, Tensor]]:
        """Goes on from a memory over `L` steps.

        Args:
            x: `[B, L, I]`.
            memory: `[1, B, H]`; hidden state and cell state of an LSTM.

        Returns:
            The hidden state after each step `[B, L, H]`, and the memory after the last.
        """
        (cell,), features = self._cell, []
        if isinstance(memory, tuple):
            hidden, inner = memory[0][0], memory[1][0]
            for step in x.unbind(dim=1):
                hidden, inner = cell(step, (hidden, inner))
                features.append(hidden)
            return torch.stack(features, dim=1), (hidden[None], inner[None])
        hidden = memory[0]
        for step in x.unbind(dim=1):
            hidden = cell(step, hidden)
            features.append(hidden)
        return torch.stack(features, dim=1), hidden[None]
