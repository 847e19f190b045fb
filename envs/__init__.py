"""Task families, one per file. They know tasks and environments, and neither agents nor torch."""
