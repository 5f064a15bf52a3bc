"""Experiments: a run (``run``), many runs (``grid``), and what they show (``comparison``)."""
