"""Rollouts in blocks of tasks: in this process, in worker processes, or in the actors of a Ray cluster.

`blocks` cuts a collect and plays blocks in this process; `choice` reads `--workers`. `pool`, `worker`, `process` are
the worker processes; `packed` and `shared` carry actors and episodes to and from them; `faults` counts failures.
"""
