#!/usr/bin/env bash
# One node of a SLURM cluster, all the GPUs that the job was given. From the checkout, with jaxle installed in ./venv ('.[gpu]'):
#   sbatch launch/slurm_gpu.sh --config configs/resnet50.py [--config.a.b=value …]
# A job that ran out of time is submitted again as it was: the same command resumes.
#SBATCH --job-name=jaxle
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --gpus=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --time=04:00:00
#SBATCH --output=runs/slurm-%j.log
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:?start this with sbatch}"
exec venv/bin/python -m jaxle.launch "$@"
