"""Meta-World's 50 task classes, stepped as one batch. Our own code; tests compare it with Meta-World 3.1.1."""
