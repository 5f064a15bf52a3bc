"""A run: one algorithm in one environment with one seed, in a folder of its own."""
