"""Parts of GPU training that need no GPU; `tests/test_gpu.py` has the rest."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from metarl.learning.device.gpu import ReplayedStep
from metarl.runs import use_matmul


@pytest.fixture
def _kept() -> Iterator[None]:
    precision, recurrent = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    yield
    torch.set_float32_matmul_precision(precision)
    torch.backends.cudnn.allow_tf32 = recurrent


@pytest.mark.usefixtures("_kept")
def test_the_format_of_products_is_that_of_recurrent_passes_too() -> None:
    for name, precision in (("tf32", "high"), ("float32", "highest")):
        use_matmul(name, torch.device("cuda"))  # type: ignore[arg-type]
        assert torch.get_float32_matmul_precision() == precision
        assert torch.backends.cudnn.allow_tf32 == (name == "tf32")


class Counter:
    def __init__(self) -> None:
        self.total = torch.zeros(())
        self.step = ReplayedStep(self.add)

    def add(self, x: Tensor) -> Tensor:
        return self.total.add_(x.sum())


def test_a_copy_of_a_step_changes_its_own_tensors() -> None:
    one = Counter()
    other = copy.deepcopy(one)
    other.step(torch.ones(3))
    assert (float(one.total), float(other.total)) == (0.0, 3.0)
