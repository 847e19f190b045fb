"""Parts that agents are built from: six packages in three layers.

Floor 0: `device`, `saving`. Floor 1: `networks`, `experience`. Floor 2: `gradient`, `ppo`.
Imports run from a floor to a lower one, or within a room; `tests/test_architecture.py` asserts it.
"""
