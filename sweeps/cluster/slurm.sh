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

# Ray asks everybody who connects for a token, which only this job knows. Unset, each of Ray's
# programs would decide for itself, by what an earlier one has left in the home directory.
export RAY_AUTH_MODE=token
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
export RAY_AUTH_TOKEN
unset RAY_ADDRESS RAY_AUTH_TOKEN_PATH
# The path of a job's own TMPDIR is often too long for Ray's sockets.
export RAY_TMPDIR=${RAY_TMPDIR:-/tmp}

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
port=$((20000 + SLURM_JOB_ID % 20000))
# In a shell of its own each time, which `exec` makes the step.
step() { exec srun --export=ALL --nodes=1 --ntasks=1 --overlap --nodelist="$@"; }
address=$(step "${nodes[0]}" hostname --ip-address)
address=${address%% *}:$port
cpus=${SLURM_CPUS_PER_TASK:-${SLURM_CPUS_ON_NODE:?is not set: is this a job of Slurm?}}
# Since Slurm 22.05 a step does not take this from the job, and would get a single CPU.
export SRUN_CPUS_PER_TASK=$cpus
resources=(--num-cpus="$cpus" --num-gpus="${SLURM_GPUS_ON_NODE:-0}")

# `--block` keeps each step, and with it Slurm's hold on the processes, alive.
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
step "${nodes[0]}" "$bin/ray" start --head --port="$port" --include-dashboard=false \
    "${resources[@]}" --block &
for node in "${nodes[@]:1}"; do
    step "$node" "$bin/ray" start --address="$address" "${resources[@]}" --block &
done
"$bin/python" -P -m safesweep.sweeps.execution.ray_connection "$address" --nodes "${#nodes[@]}" \
    --seconds "${SAFESWEEP_CLUSTER_SECONDS:-300}"

"$bin/safesweep" run "$spec" --address "$address" --storage "$storage" &
driver=$!
trap 'kill -TERM "$driver"' TERM
# The first `wait` returns when the signal comes, the second when the sweep has stopped.
wait "$driver" || wait "$driver"
