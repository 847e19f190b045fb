"""The ONNX graph of every agent and cell, run by onnxruntime, acts as the agent does."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, get_args

import numpy as np
import onnx
import onnxruntime
import pytest

from metarl.exporting.graph import OPSET, check_packages, onnx_graph
from metarl.learning.networks.cells.settings import CellName
from metarl.registry import AGENTS, names

OTHERS = [("varibad", cell) for cell in get_args(CellName)] + [("recurrent-sac", cell) for cell in get_args(CellName)]
"""Their graphs have the same operations as those of rl2; the traced steps of all are in `test_steps.py`."""


DOUBLE = onnx.TensorProto.DOUBLE


def numbers_of(content: bytes) -> set[int]:
    """Types of all constants of a graph, and of all conversions."""
    graph = onnx.load_from_string(content).graph
    casts = {attribute.i for node in graph.node if node.op_type == "Cast" for attribute in node.attribute}
    return casts | {one.data_type for one in graph.initializer}


def by_onnxruntime(content: bytes, step: Any) -> Callable[[Mapping[str, np.ndarray]], Any]:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    assert {one.name: one.shape for one in session.get_inputs()} == {n: [size] for n, size in step.sizes.items()}
    assert [one.name for one in session.get_outputs()] == ["action", "next_memory"]
    assert {one.type for one in (*session.get_inputs(), *session.get_outputs())} == {"tensor(float)"}
    return lambda given: session.run(None, dict(given))


@pytest.fixture
def check(build, step_of, largest_difference, capsys) -> Callable[..., bytes]:
    def run(name: str, sampled: bool = False, **settings: Any) -> bytes:
        agent = build(name, **settings)
        step, state = step_of(agent, sampled)
        content = onnx_graph(step)
        assert capsys.readouterr() == ("", "")
        assert DOUBLE not in numbers_of(content)
        assert largest_difference(agent, step, state, by_onnxruntime(content, step)) < 1e-5
        return content

    return run


ALIKE = ("fomaml", "gbml", "mb-mpc", "meta-lstm", "meta-sgd", "promp", "reptile")
"""Agents with the graph of maml-trpo, and one with a part of that of grbal."""


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] * (n in ALIKE)) for n in names(AGENTS) if n != "rl2"],
)
def test_a_graph_acts_as_its_agent(name: str, check) -> None:
    check(name)


@pytest.mark.parametrize("cell", get_args(CellName))
def test_so_it_does_with_every_cell(cell: str, check) -> None:
    check("rl2", cell=cell)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "cell"), OTHERS)
def test_so_do_other_agents_with_every_cell(name: str, cell: str, check) -> None:
    check(name, cell=cell)


def test_a_graph_samples_by_numbers_that_are_given(check) -> None:
    check("pearl", sampled=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["maml-trpo", "rl2", "varibad", "recurrent-sac", "multitask"])
def test_so_does_that_of_other_agents(name: str, check) -> None:
    check(name, sampled=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings", [{"head": "hypernetwork"}, {"aggregate": "max"}, {"cell": "attention", "attention_window": 1}]
)
def test_so_does_that_of_every_option(settings: dict[str, Any], check) -> None:
    check("rl2", **settings)


def test_a_graph_is_one_self_contained_file_without_traces_of_its_making(check, build) -> None:
    spaces = build("rl2").spaces
    content = check("rl2", spaces=type(spaces)(3, (2.0,), (5.0,), 5, choices=4))
    model = onnx.load_from_string(content)
    assert [(one.domain, one.version) for one in model.opset_import] == [("", OPSET)]
    assert not any(one.HasField("data_location") and one.data_location for one in model.graph.initializer)
    assert not any(thing.metadata_props for thing in (model, model.graph, *model.graph.node))
    assert b".py" not in content
    assert model.producer_name == "metarl"


def test_packages_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metarl.exporting.graph.find_spec", lambda name: None if name == "onnxscript" else sys)
    with pytest.raises(ValueError, match=r"the package 'onnxscript' is not installed.*metarl-robots\[export\]"):
        check_packages()
