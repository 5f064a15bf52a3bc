"""Experiments: one run (``run``), many runs (``grid``), and what many runs show (``comparison``)."""
