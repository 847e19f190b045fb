"""The doors: the command `metarl`, presets, benchmarks. The only place that knows environments and agents both."""
