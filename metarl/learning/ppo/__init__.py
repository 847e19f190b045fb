"""Agents that are trained by proximal policy optimisation.

The learner (`learner`), the part that its agents share (`agent`), agents without memory (`feed_forward`), and agents
whose memory spans a trial (`trial_agent`, with `trials` and `segments`).
Imports `trials`, `networks`, `experience`, `device`, `saving`.
"""
