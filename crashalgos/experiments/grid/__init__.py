"""
Grids of runs: many runs, started on this machine or on a Ray cluster.

``grid`` runs them with an executor: ``local_executor``, or ``ray_executor``, which starts a ``ray_task`` for each run on a
``ray_cluster``.
``packing`` copies a run's folder from a node to this machine; ``wandb_runs`` says where the W&B runs are.
"""
