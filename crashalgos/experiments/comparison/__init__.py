"""
Comparisons of algorithms: contenders, results, statistics, figures and reports.

1. ``contenders`` reads what is to be compared. ``tables`` writes the CSV files of a comparison.
2. ``loading`` reads these files into ``results``; ``references`` normalise the returns.
3. ``statistics`` says what the scores show; ``verdict`` says it in a sentence, ``contender_pairs`` for all pairs.
4. ``report`` writes the report: ``report_tables``, ``figures``, ``page`` and the templates. ``wandb_report`` sends it to W&B.

``ladder`` is the report of several comparisons, rung by rung.
"""
