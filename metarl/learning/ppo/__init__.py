"""Agents that are trained by proximal policy optimisation.

The learner (`learner`), agents without memory (`feed_forward`), and those whose memory spans a trial (`trials`).
Imports `networks`, `experience`, `device`, `saving`.
"""
