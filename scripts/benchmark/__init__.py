"""
The speed harness, run from the repository's root by ``python -m scripts.benchmark``.

``workloads`` says what is measured. ``participants`` are the programs that are timed, ``plain_loop`` and ``floor`` among
them. ``worker`` is a participant's process, ``contest`` lets the processes take turns, ``tables`` writes the results.
``guards`` measures one detail of the compiled mode, and is run alone.
"""
