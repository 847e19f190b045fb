"""Plain, slow versions of metarl's computations, for comparison in tests and benchmarks."""
