"""Experience, from the environments to a learner.

Packed trials and feedback (`trials`, `feedback`), returns and advantages, normalisation, replays (`replay`,
`trial_replay`, `task_buffers`, with one codec of rows in `columns`), actions, checks of arrays from callers.
NumPy in, NumPy or tensors out; no network. Imports `device` and `saving` only.
"""
