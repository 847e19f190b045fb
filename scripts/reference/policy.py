"""The policy of the gradient-based references: one linear layer after another, as PyTorch's users write it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import linear

from metarl.learning.policy import StackedPolicy


class PlainPolicy(StackedPolicy):
    """The same distributions from the same parameters, task after task, differentiated by autograd alone."""

    def _network(self, arrays: Mapping[str, Tensor], observations: Tensor) -> Tensor:
        outputs, last = [], sum(name.startswith("weight_") for name in arrays) - 1
        for task, x in enumerate(observations.unbind()):
            for i in range(last + 1):
                weight = arrays[f"weight_{i}"][task].T.contiguous()  # [out, in], as in torch.nn.Linear
                x = linear(x, weight, arrays[f"bias_{i}"][task])
                if i < last:
                    x = getattr(torch, self._activation)(x)
            outputs.append(x)
        return torch.stack(outputs)
