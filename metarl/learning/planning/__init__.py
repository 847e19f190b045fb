"""Planning with learned models of the environment.

`planner.py` chooses actions by the cross-entropy method or by MPPI, for many environments at once, each with a model of
its own. `scoring.py` predicts the returns of plans, and `dynamics.py` is the model. `agent.py` is the base class of the
agents, `state.py` their state. Imports networks and experience.
"""
