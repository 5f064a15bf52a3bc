"""Comparisons: what is compared, the files that the runs leave, and the report that is made of these files alone."""
