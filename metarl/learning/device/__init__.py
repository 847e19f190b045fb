"""Copies to a GPU (`gpu`), chunks that fit into its memory (`chunks`), and settings of the process (`process`).

The lowest floor: imports no other room.
"""
