"""The cluster files that ship are what Ray, KubeRay and Slurm take, and fit this release."""

import os
import subprocess
from collections.abc import Callable
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

FOLDER = files("safesweep.sweeps") / "cluster"


def content(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))


def test_the_cluster_configuration_is_one_by_rays_own_schema() -> None:
    validate_config(prepare_config(content("ray-cluster.yaml")))


def test_rays_schema_would_notice() -> None:
    broken = content("ray-cluster.yaml")
    broken["head_start_commands"] = broken.pop("head_start_ray_commands")
    with pytest.raises(Exception, match="head_start_commands"):
        validate_config(prepare_config(broken))


def test_the_job_has_what_kuberay_asks_for() -> None:
    job = content("rayjob.yaml")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    spec = job["spec"]
    known = {
        "entrypoint", "backoffLimit", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished",
        "rayClusterSpec",
    }  # fmt: skip
    assert spec.keys() <= known
    assert "--address auto" in spec["entrypoint"]
    cluster = spec["rayClusterSpec"]
    assert cluster["rayVersion"] == version("ray")
    head, workers = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    for group in [head, *workers]:
        # Values of rayStartParams, and quantities, must be text.
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        for container in group["template"]["spec"]["containers"]:
            assert container["name"] and container["image"]
            limits = container["resources"]["limits"]
            assert all(isinstance(value, str) for value in limits.values())
            assert limits == container["resources"]["requests"]
            assert container["envFrom"] == [{"secretRef": {"name": "storage"}}]
    for group in workers:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    images = {c["image"] for g in [head, *workers] for c in g["template"]["spec"]["containers"]}
    assert len(images) == 1
    mounted = {v["name"] for v in head["template"]["spec"]["volumes"]}
    assert {m["name"] for m in head["template"]["spec"]["containers"][0]["volumeMounts"]} == mounted


STAND_IN = """#!/usr/bin/env bash
echo "$(basename "$0") $*" >> "$CALLS"
case "$(basename "$0")" in
    scontrol) printf 'one\\ntwo\\nthree\\n' ;;
    srun)
        while [[ "$1" == --* ]]; do shift; done
        "$@" ;;
    hostname) echo "10.0.0.1 10.0.0.9" ;;
    ray) [[ -n "$RAY_AUTH_TOKEN" && $RAY_AUTH_MODE == token ]] || exit 3 ;;
    python)
        until [[ $(grep -c "^ray start" "$CALLS") == 3 ]]; do sleep 0.1; done
        exit "${NODES_MISSING:-0}" ;;
    safesweep) exit 1 ;;
esac
"""


@pytest.fixture
def slurm(tmp_path: Path) -> Callable[..., tuple[int, list[str]]]:
    """A function that runs the script with stand-ins; returns its exit code and their calls."""

    def run(**variables: str) -> tuple[int, list[str]]:
        for name in ("scontrol", "srun", "hostname", "ray", "python", "safesweep"):
            program = tmp_path / name
            program.write_text(STAND_IN)
            program.chmod(0o755)
        calls = tmp_path / "calls"
        environment = {
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "CALLS": str(calls),
            "SAFESWEEP_BIN": str(tmp_path),
            "SLURM_SUBMIT_DIR": str(tmp_path),
            "SLURM_JOB_NODELIST": "whatever",
            "SLURM_JOB_ID": "41",
            "SLURM_GPUS_ON_NODE": "2",
            **variables,
        }
        command = ["bash", str(FOLDER / "slurm.sh"), "sweep.yaml", "s3://bucket/store"]
        done = subprocess.run(command, env=environment, check=False)
        return done.returncode, calls.read_text().splitlines()

    return run


@pytest.mark.parametrize("variable", ["SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"])
def test_the_slurm_script_starts_every_node_and_passes_the_exit_code_on(
    slurm: Callable[..., tuple[int, list[str]]], variable: str
) -> None:
    code, said = slurm(**{variable: "16"})
    assert code == 1  # what safesweep said
    shares = "--num-cpus=16 --num-gpus=2 --block"
    assert f"ray start --head --port=20041 --include-dashboard=false {shares}" in said
    assert said.count(f"ray start --address=10.0.0.1:20041 {shares}") == 2
    wait = "-P -m safesweep.sweeps.execution.ray_connection 10.0.0.1:20041 --nodes 3 --seconds 300"
    assert f"python {wait}" in said
    run = "safesweep run sweep.yaml --address 10.0.0.1:20041 --storage s3://bucket/store"
    assert run in said


def test_the_slurm_script_ends_where_a_node_does_not_come(
    slurm: Callable[..., tuple[int, list[str]]],
) -> None:
    code, said = slurm(SLURM_CPUS_PER_TASK="16", NODES_MISSING="1", SAFESWEEP_CLUSTER_SECONDS="7")
    assert code == 1
    assert not [call for call in said if call.startswith("safesweep")]
    assert [call for call in said if call.startswith("python") and call.endswith("--seconds 7")]
