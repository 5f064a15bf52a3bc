"""Experiments: one training (``run``), many (``grid``), what they show (``comparison``), how fast it goes (``benchmark``)."""
