"""Agents that adapt by gradient: stacked policies, losses, the differentiable inner loop, the trust region.

`agent` is everything around the update of such an agent. Imports `networks`, `experience`, `device`, `saving`.
"""
