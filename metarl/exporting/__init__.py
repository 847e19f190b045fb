"""Exported policies: a graph in ONNX format, its contract, and a script that runs both.

`graph` writes the graph of a `PolicyStep`, `contract` says what its numbers mean, `adapted` adapts an agent to a task
first, `folder` writes the folder, `run_policy` is the script that goes into it, and `playing` makes its environment.
Imports agents' steps and the core; the packages of ONNX are imported when a graph is written.
"""
