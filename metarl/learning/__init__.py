"""Parts that agents are built from: six packages in three layers.

Layer 0: `device`, `saving`. Layer 1: `networks`, `experience`. Layer 2: `gradient`, `ppo`.
A package imports packages of lower layers only; `tests/test_architecture.py` asserts it.
"""
