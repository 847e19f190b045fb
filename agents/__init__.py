"""Agents: one algorithm per file. No agent imports another; shared parts are in `metarl`."""
