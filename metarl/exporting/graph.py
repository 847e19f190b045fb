"""The graph of a policy's step in ONNX format."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import torch

import metarl
from metarl.learning.networks.exported.step import PolicyStep

NEEDED = ("onnx", "onnxscript", "onnxruntime")
"""Packages that export needs: two write the graph, the third runs it."""
OPSET = 20
"""Version of ONNX's operators."""
OUTPUTS = ("action", "next_memory")


def check_packages() -> None:
    """Checks that the packages are installed.

    Raises:
        ValueError: One is not.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise ValueError(
            f"export: the package {missing[0]!r} is not installed, expected {', '.join(NEEDED)}; run: "
            'pip install "metarl-robots[export]"'
        )


def example_inputs(step: PolicyStep) -> dict[str, torch.Tensor]:
    """Zeros as inputs of a step, by name in order."""
    return {name: torch.zeros(size, dtype=torch.float32) for name, size in step.sizes.items()}


def onnx_graph(step: PolicyStep) -> bytes:
    """The graph of a step, with its parameters inside.

    Inputs are those of `PolicyStep.sizes`, outputs `action` and `next_memory`; all are float32 vectors.

    Raises:
        ValueError: A package is not installed.
    """
    check_packages()
    import onnx
    from torch.fx.experimental.proxy_tensor import make_fx

    examples = tuple(example_inputs(step).values())
    with torch.no_grad(), _quiet():
        traced = make_fx(step.eval())(*examples)  # gradients of an adaptation become operations too
        program: Any = torch.onnx.export(
            traced,
            examples,
            dynamo=True,
            verbose=False,
            input_names=list(step.sizes),
            output_names=list(OUTPUTS),
            opset_version=OPSET,
        )
    model = program.model_proto
    for thing in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer):
        del thing.metadata_props[:]  # lines and paths of the code that was traced
    for node in model.graph.node:
        node.doc_string = ""
    model.producer_name, model.producer_version = "metarl", metarl.__version__
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's warnings and log lines, which are about itself."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
