"""Comparisons of algorithms: contenders, results, statistics, figures and reports."""
