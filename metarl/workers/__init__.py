"""Rollouts in blocks of tasks: in this process, in worker processes, or in the actors of a Ray cluster."""
