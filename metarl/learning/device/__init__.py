"""Devices: copies to a GPU, chunks that fit, settings of the process, loops that are compiled for the CPU.

The modules are `gpu`, `chunks`, `process` and `compiled`.

The lowest layer: imports no other package of `metarl.learning`.
"""
