"""The command `metarl`, presets and benchmarks: the only package that imports both environments and agents."""
