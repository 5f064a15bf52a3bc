"""Folders of the repository that tests refer to."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
#: Has the modules of environments that a run imports by name: ``crash_env``, ``failing_env`` and ``ray_env``
HELPERS = Path(__file__).parent
