"""A recurrent layer as a Python loop over time."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence


class Stepwise(nn.Module):
    """A GRU or LSTM that calls torch's cell once per step, with the layer's own parameters.

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
        self._cell = (cell,)  # in a tuple: a submodule would list the parameters twice

    def forward(
        self, x: Tensor | PackedSequence, memory: Tensor | tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor | tuple[Tensor, Tensor]]:
        """Continues from a memory over `L` steps, or over the steps of each packed sequence.

        Args:
            x: `[B, L, I]`, or packed sequences.
            memory: `[1, B, H]`; hidden state and cell state of an LSTM.

        Returns:
            The hidden state after each step `[B, L, H]`, and the memory after the last.
        """
        if isinstance(x, PackedSequence):
            return self._each_to_its_end(x, memory)
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

    def _each_to_its_end(
        self, packed: PackedSequence, memory: Tensor | tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor | tuple[Tensor, Tensor]]:
        """Passes packed sequences one after another; hidden states after their ends are zero."""
        x, lengths = pad_packed_sequence(packed, batch_first=True)
        features, ends = torch.zeros(*x.shape[:2], self._cell[0].hidden_size, device=x.device), []
        for row, steps in enumerate(lengths.tolist()):
            one = slice(row, row + 1)
            start = (memory[0][:, one], memory[1][:, one]) if isinstance(memory, tuple) else memory[:, one]
            features[one, :steps], end = self(x[one, :steps], start)
            ends.append(end)
        if isinstance(memory, tuple):
            return features, (torch.cat([h for h, _ in ends], dim=1), torch.cat([c for _, c in ends], dim=1))
        return features, torch.cat(ends, dim=1)
