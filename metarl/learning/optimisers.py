"""Saving and restoring the state of Adam optimisers bit for bit."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

FIELDS = ("step", "exp_avg", "exp_avg_sq")


def adam_tensors(prefix: str, optimiser: torch.optim.Adam) -> dict[str, Tensor]:
    """Step count and both moments of each parameter, for a checkpoint; zeros before the first step.

    Args:
        prefix: Start of the names: `<prefix>.<number of the parameter>.<field>`.
        optimiser: Plain Adam (no AMSGrad).
    """
    saved: dict[str, Tensor] = {}
    for i, parameter in enumerate(p for group in optimiser.param_groups for p in group["params"]):
        state = optimiser.state.get(parameter) or _fresh(parameter)
        saved |= {f"{prefix}.{i}.{name}": state[name].detach().cpu().clone() for name in FIELDS}
    return saved


def restore_adam(prefix: str, optimiser: torch.optim.Adam, tensors: Mapping[str, Tensor]) -> None:
    """Takes back what `adam_tensors` gave; the shapes are the caller's to check."""
    pairs = ((p, bool(group["fused"])) for group in optimiser.param_groups for p in group["params"])
    for i, (parameter, fused) in enumerate(pairs):
        saved = {name: tensors[f"{prefix}.{i}.{name}"].clone() for name in FIELDS}
        moments = {name: saved[name].to(parameter.device) for name in FIELDS[1:]}
        # Adam keeps its step count on the CPU, unless one kernel does it all.
        step = saved["step"].to(parameter.device) if fused else saved["step"]
        optimiser.state[parameter] = {"step": step, **moments}


def _fresh(parameter: Tensor) -> dict[str, Tensor]:
    return {
        "step": torch.tensor(0.0),
        "exp_avg": torch.zeros_like(parameter),
        "exp_avg_sq": torch.zeros_like(parameter),
    }
