"""Benchmarks: ratios against a baseline that runs in the same minute, saved as JSON."""
