"""Benchmarks: ratios of kvmbind to raw C in the same run."""
