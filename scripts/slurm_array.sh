#!/usr/bin/env bash
# One run with one seed for each task of a Slurm array. From the repository's folder, after `make test` or `make compare`
# has made .venv; the arguments are those of scripts/train.py:
#   sbatch scripts/slurm_array.sh --algo ppo --env CartPole-v1
# A task that is preempted, or whose node fails, is requeued, and resumes from its last checkpoint; so does one that has reached its
# time limit, after `scontrol requeue JOB_TASK`.
#SBATCH --job-name=crashalgos
#SBATCH --array=0-9
#SBATCH --cpus-per-task=1
#SBATCH --mem=2G
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
# Two minutes before the end: enough to save the model and to close the W&B run.
#SBATCH --signal=B:TERM@120
set -eu
cd "${SLURM_SUBMIT_DIR:-.}"
exec "${PYTHON:-.venv/bin/python}" scripts/train.py --seed "$SLURM_ARRAY_TASK_ID" --no-progress-bar \
  --group "slurm-$SLURM_ARRAY_JOB_ID" --output "results/slurm/$SLURM_ARRAY_JOB_ID/$SLURM_ARRAY_TASK_ID" "$@"
