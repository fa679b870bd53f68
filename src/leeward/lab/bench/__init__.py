"""Benchmarks: Leeward and its peers on the same data in one run; what counts is the ratio, not the second."""
