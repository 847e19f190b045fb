"""What agents are built from, in six rooms.

`device`, `saving` (floor 0); `networks`, `experience` (floor 1); `gradient`, `ppo` (floor 2). A room imports rooms on
lower floors only, and `networks` may also be imported by `experience`'s neighbours above, never the reverse.
"""
