#!/usr/bin/env bash
# A sweep on the nodes of one Slurm allocation:
#     sbatch slurm.sh sweep.yaml /shared/results
# Submit it again after a time limit or a failure: only what is missing is trained.
#
# Code: a checkout with its .venv (`make setup`) on the file system that all nodes share.
# Data: the first node fetches, collects or finds it; Ray carries it to the others.
# Results: a folder on the shared file system, or the URI of an object store.
#SBATCH --job-name=safesweep
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
# For nodes without GPUs, leave this line out.
#SBATCH --gpus-per-node=1
#SBATCH --time=12:00:00
# Five minutes before the end the sweep is interrupted, as by Ctrl-C.
#SBATCH --signal=B:TERM@300
set -euo pipefail

spec=${1:?usage: sbatch slurm.sh SWEEP_FILE STORAGE}
storage=${2:?usage: sbatch slurm.sh SWEEP_FILE STORAGE}
bin=${SAFESWEEP_BIN:-$SLURM_SUBMIT_DIR/.venv/bin}

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
port=$((20000 + SLURM_JOB_ID % 20000))
address=$(srun --nodes=1 --ntasks=1 --nodelist="${nodes[0]}" hostname --ip-address)
address=${address%% *}:$port
resources=(--num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus="${SLURM_GPUS_ON_NODE:-0}")

# `--block` keeps each step, and with it Slurm's hold on the processes, alive.
srun --nodes=1 --ntasks=1 --nodelist="${nodes[0]}" --overlap \
    "$bin/ray" start --head --port="$port" "${resources[@]}" --block &
for node in "${nodes[@]:1}"; do
    srun --nodes=1 --ntasks=1 --nodelist="$node" --overlap \
        "$bin/ray" start --address="$address" "${resources[@]}" --block &
done
until "$bin/ray" status --address="$address" >/dev/null 2>&1; do sleep 2; done

"$bin/safesweep" run "$spec" --address "$address" --storage "$storage" &
driver=$!
trap 'kill -TERM "$driver"' TERM
# The first `wait` returns when the signal comes, the second when the sweep has stopped.
wait "$driver" || wait "$driver"
