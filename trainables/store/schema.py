"""The tables of a result store: names, columns and types. Every part file is written to these.

A store holds one folder a table, hive-partitioned by sweep; the partition column `sweep` lives in
the folder name. All parts of a table have the same columns and types, whatever methods and imports
share the store, so that any reader sees every row and column: hyperparameters, which differ from
method to method, are rows of a table of their own. What reads through `safesweep.ResultStore` finds
them as typed columns `hp_<name>` of `runs` nevertheless.
"""

SCHEMA_VERSION = 6
"""Recorded in the metadata of every part, under `VERSION_KEY`. Parts of every version are read
together, by the names of their columns: one that a part lacks is null there.

1: runs, evaluations, episodes, metrics, sweeps.
2: adds confirmations, and parts that hold several trials (`trainables.store.compaction`).
3: adds runs.halvings: how often the population was halved because memory had run out.
   Adds `run_status` to evaluations: the last evaluation of a stopped run is not a final one.
   Adds runs.continued_from: the shorter run that a run was carried on from.
4: adds runs.traceback: what a failed run raised, whole.
   Adds hyperparameters, instead of a column `hp_<name>` of runs for each.
   Adds runs.evaluation_count and the other counts: how many rows of a run there are to be.
   Adds measurements, which were text files (`points/<name>.csv`) before.
5: runs.memory_splits was runs.halvings, and the metric true_infeasible_recall was
   true_doomed_recognised (`trainables.store.older_names`).
6: adds labels: what users note down of their sweeps.
   Adds runs.code_digest: of the source that trained a run (`trainables.store.source_digest`).
   Adds a checksum of each part (`trainables.store.part_checksums`).
"""

VERSION_KEY = "safesweep.schema_version"
TRIALS_KEY = "safesweep.trials"
"""Metadata of a compacted part: the ids of the trials in it, as a JSON list."""

HYPERPARAMETERS_KEY = "safesweep.hyperparameters"
"""Metadata of a part of runs: the type of each hyperparameter in it, as a JSON object."""
SEALS_KEY = "safesweep.seals"
"""Metadata of a trial's part of runs: bytes and CRC-32 of its part in each other table, as a JSON
object. Where they agree, no rows need to be counted to know that all are there."""

TRIAL_TABLES = ("runs", "evaluations", "episodes", "metrics", "hyperparameters")
"""The tables whose parts are one trial's each, named `<trial_id>.parquet`."""

TABLES: dict[str, dict[str, str]] = {
    "runs": {
        "run_id": "string",
        "config_id": "string",
        "trial_id": "string",
        "algorithm": "string",
        "task": "string",
        "seed": "int64",
        "status": "string",
        "steps": "int64",
        "train_seconds": "float64",
        "evaluate_seconds": "float64",
        "device": "string",
        "population": "int64",
        "memory_splits": "int64",
        "dataset_id": "string",
        "code_version": "string",
        "code_digest": "string",
        "started_at": "timestamp[us, tz=UTC]",
        "finished_at": "timestamp[us, tz=UTC]",
        "error": "string",
        "traceback": "string",
        "continued_from": "string",
        "config": "string",
        "evaluation_count": "int64",
        "episode_count": "int64",
        "metric_count": "int64",
        "hyperparameter_count": "int64",
    },
    "hyperparameters": {
        "config_id": "string",
        "name": "string",
        "number": "float64",
        "text": "string",
    },
    "evaluations": {
        "run_id": "string",
        "config_id": "string",
        "algorithm": "string",
        "task": "string",
        "seed": "int64",
        "step": "int64",
        "policy": "string",
        "reward_return_mean": "float64",
        "cost_return_mean": "float64",
        "normalized_reward": "float64",
        "normalized_cost": "float64",
        "cost_limit": "float64",
        "violation_rate": "float64",
        "zero_cost_rate": "float64",
        "episode_length_mean": "float64",
        "episodes": "int64",
        "act_latency_ms": "float64",
        "run_status": "string",
    },
    "episodes": {
        "run_id": "string",
        "step": "int64",
        "policy": "string",
        "episode": "int64",
        "reward_return": "float64",
        "cost_return": "float64",
        "length": "int64",
    },
    "metrics": {
        "run_id": "string",
        "step": "int64",
        "name": "string",
        "value": "float64",
    },
    "sweeps": {
        "spec": "string",
        "status": "string",
        "created_at": "timestamp[us, tz=UTC]",
        "code_version": "string",
        "run_ids": "list<string>",
    },
    "labels": {
        "tags": "list<string>",
        "note": "string",
        "archived": "bool",
        "deleted": "bool",
    },
    "confirmations": {
        "confirmation_id": "string",
        "run_id": "string",
        "config_id": "string",
        "algorithm": "string",
        "task": "string",
        "seed": "int64",
        "step": "int64",
        "policy": "string",
        "kind": "string",
        "rule": "string",
        "episode_seed": "int64",
        "reward_return_mean": "float64",
        "cost_return_mean": "float64",
        "normalized_reward": "float64",
        "normalized_cost": "float64",
        "cost_limit": "float64",
        "violation_rate": "float64",
        "episodes": "int64",
        "code_version": "string",
        "confirmed_at": "timestamp[us, tz=UTC]",
    },
    "measurements": {
        "run_id": "string",
        "name": "string",
        "algorithm": "string",
        "task": "string",
        "seed": "int64",
        "view": "string",
        "point": "int64",
        "quantity": "string",
        "value": "float64",
    },
}

COUNT_COLUMNS = {
    "evaluations": "evaluation_count",
    "episodes": "episode_count",
    "metrics": "metric_count",
    "hyperparameters": "hyperparameter_count",
}
"""The column of runs that says how many rows of a table belong to a run; null where a part of an
older version does not say."""

IMPORTED = "imported"
"""The `dataset_id` of runs that were not trained here."""

RUN_STATUSES = ("completed", "stopped", "diverged", "failed")
"""`stopped`: early, on purpose; `error` says why, `steps` when. A run that is `completed` has an
`error` where it degenerated: it then says how."""
