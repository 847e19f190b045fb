"""Checks of a family, for `metarl check` and (`short_test`) before a training.

`contract` checks single environments, and `task_check` compares tasks: effects of parameters (`effect`, `derived`) and
leaks of hidden ones (`leak`). They play episodes (`playing`, `tasks_apart`) and report `findings`.
Imports `metarl.gymnasium_envs`, and `metarl.workers` for calls in a process that may die.
"""
