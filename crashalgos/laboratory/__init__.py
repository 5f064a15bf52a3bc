"""The laboratory for gradient estimators: a small MDP in which their bias and variance are exact."""
