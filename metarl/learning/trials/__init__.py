"""Agents with a memory that spans a trial, whoever trains them.

Their state and how they act, adapt and are exported (`actor`), the settings that they have in common and the ends of
returns (`settings`), and the memory that a run of theirs needs (`needs`).
Imports `networks`, `experience`, `device`.
"""
