"""Policies as traceable modules, for export.

One step of a policy (`step`), cells as plain products of a single step (`cells`), modules in which everything that
cannot be traced is replaced (`traceable`), and policies of a posterior and of fast weights (`inferring`). Acting uses
NumPy's fast paths; tests hold these steps to them. Imports the other modules of `networks`.
"""
