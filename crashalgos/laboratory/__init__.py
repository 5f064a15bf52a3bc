"""Gradient estimators measured: an MDP in which their bias and variance are exact."""
