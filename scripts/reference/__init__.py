"""Plain, slow versions of what metarl does fast: what the tests and the benchmark compare with."""
