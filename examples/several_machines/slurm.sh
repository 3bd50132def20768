#!/bin/bash
# Train on several machines under Slurm, one process for each GPU. Submit it in the checkout:
#
#   sbatch examples/several_machines/slurm.sh imagenet2012 --out /shared/runs/imagenet --set data_dir=/shared/tfds
#
# Options of sbatch change what is requested: sbatch --nodes=4 examples/several_machines/slurm.sh ...
#SBATCH --job-name=wavemix-tf
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
# Every process must see all GPUs of its machine: JAX takes the one of its number. Hence not --gpus-per-task.
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
# A job that was preempted starts again and continues after its last finished epoch.
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

export KERAS_BACKEND=jax
# --kill-on-bad-exit: without one process the others would wait for it.
srun --kill-on-bad-exit=1 "${PYTHON:-python}" examples/several_machines/train.py "$@"
