"""Experiments: one training (``run``), many of them in parallel (``grid``), and what they show (``report``, ``plots``)."""
