"""Agents that are trained by proximal policy optimisation.

The learner (`learner`), agents without memory (`feed_forward`), and agents whose memory spans a trial (`trial_agent`,
with returns and advantages in `trials`, segments in `segments`); `needs` estimates their memory.
Imports `networks`, `experience`, `device`, `saving`.
"""
