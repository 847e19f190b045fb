"""Planning with learned models of the environment.

`planner.py` chooses actions by the cross-entropy method or by MPPI, for many environments at once, each with a model of
its own. `dynamics.py` is the model. Imports networks and experience.
"""
