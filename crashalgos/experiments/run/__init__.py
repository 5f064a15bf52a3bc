"""
A run: one algorithm in one environment with one seed, in a folder of its own.

``config`` describes a run, ``checks`` finds its mistakes early, ``runner`` runs it. ``settings`` and ``registry`` give its
hyperparameters and its algorithm; ``model``, ``callbacks``, ``evaluation`` and ``folder`` are its parts.
"""
