"""The check of a family of the user's own, as `metarl check` and a training's first seconds make it.

`contract` asks what every environment must keep; `task_check` whether tasks differ (`effect`), leak (`leak`) or were
derived too early (`derived`). They compare episodes (`playing`, `tasks_apart`) and report `findings`.
Imports `metarl.gymnasium_envs`.
"""
