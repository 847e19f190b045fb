"""Copies to a GPU (`gpu`), chunks that fit into its memory (`chunks`), and settings of the process (`process`).

The lowest layer: imports no other package of `metarl.learning`.
"""
