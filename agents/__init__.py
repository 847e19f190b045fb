"""Agents: one algorithm per file. None imports another; what two share lives in `metarl`."""
