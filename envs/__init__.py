"""Task families, one file per robot. They import tasks and environments, but no agent and no torch."""
