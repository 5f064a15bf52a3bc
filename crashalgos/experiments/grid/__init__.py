"""Grids of runs: many runs, started on this machine or on a Ray cluster."""
