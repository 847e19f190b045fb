"""What was experienced, on its way to a learner: returns, normalisation, replay, trials, actions, checks.

NumPy in, NumPy or tensors out; no network. Imports `device` only.
"""
