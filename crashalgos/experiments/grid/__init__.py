"""A grid: many runs, on this machine or on a cluster."""
