"""Meta-World: its 50 classes of tasks, stepped as one batch; our own code, pinned to Meta-World 3.1.1 by tests."""
