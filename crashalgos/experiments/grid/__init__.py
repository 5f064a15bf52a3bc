"""
Grids of runs: many runs, started on this machine or on a Ray cluster.

``grid`` runs them with an executor: ``local_executor``, or ``ray_executor``, which starts a ``ray_task`` for each run on a
``ray_cluster``.
``packing`` copies a run's folder from a node to this machine; ``wandb_runs`` says where the W&B runs are.
"""

from crashalgos.experiments.grid.grid import run_grid
from crashalgos.experiments.grid.local_executor import LocalExecutor
from crashalgos.experiments.grid.ray_executor import RayExecutor

__all__ = ["LocalExecutor", "RayExecutor", "run_grid"]
