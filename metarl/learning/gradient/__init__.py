"""Agents that adapt by policy-gradient steps.

`policy` and `losses` define the objectives, `inner_loop` and `adaptation` the differentiable inner loop, `bounds` the
projection of parameters, `trust_region` and `meta_trust_region` the outer step, `agent` and `trust_region_agent` the
base classes of agents. Imports `networks`, `experience`, `device`, `saving`.
"""
