#!/bin/sh
# A model that PyTorch exports to ONNX holds the paths and lines of the program that exported it.
#
# Guess before the run: the file holds operators, weights, and the names of inputs and outputs.
# Seen: the exporter writes into every node's metadata the stack trace of the line that made it: the full path of the
# source file, the user's folder included, its line number, and the text of the line; the same for files of PyTorch.
# The names of the classes are there too. Weights alone say nothing of this, and onnxruntime reads none of it. A file
# that is sent to others should be written without node.metadata_props.
# Ends with 1 as soon as PyTorch behaves otherwise.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 onnx==1.23.2 onnxscript==0.7.2
mkdir "$folder/someone"
cat > "$folder/someone/train_robot.py" <<'PYTHON'
from pathlib import Path

import onnx
import torch


class Policy(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 2)

    def forward(self, observation):
        return torch.tanh(self.layer(observation))  # a remark on this robot


torch.onnx.export(Policy().eval(), (torch.zeros(1, 3),), dynamo=True, verbose=False).save("policy.onnx")
model = onnx.load("policy.onnx")
traces = [entry.value for node in model.graph.node for entry in node.metadata_props if "stack_trace" in entry.key]
print(*traces, sep="\n")
assert len(traces) == len(model.graph.node) > 0
assert all(str(Path(__file__).resolve()) in trace for trace in traces)
held = Path("policy.onnx").read_bytes()
assert b"return torch.tanh(self.layer(observation))" in held
for node in model.graph.node:
    del node.metadata_props[:]
assert b"train_robot" not in model.SerializeToString()
PYTHON
cd "$folder"
venv/bin/python "$folder/someone/train_robot.py"
