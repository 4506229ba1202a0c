"""Well-known tables are imported without naming their columns, and what is named comes first."""

import csv
from pathlib import Path

import pandas
import pytest
import yaml

from safesweep.analysis.selection.choice import select
from safesweep.analysis.store.reader import ResultStore
from safesweep.search_spaces.validation import InvalidInput
from safesweep.trainables.store.imports import import_files

SETTINGS = {
    "project": "OSRL-baselines", "group": "g", "name": "n", "prefix": "BCQL", "suffix": "",
    "logdir": "logs", "verbose": True, "task": "OfflineCarRun-v0", "dataset": None, "device": "cpu",
    "threads": 4, "actor_lr": 0.001, "cost_limit": 20, "betas": (0.9, 0.99),
    "a_hidden_sizes": [256, 256],
}  # fmt: skip


def write_run(folder: Path, seed: int, settings: bool = True) -> Path:
    folder = folder / "OfflineCarRun-v0-cost-20" / f"BCQL_seed{seed}-ab12"
    folder.mkdir(parents=True)
    names = ["Steps", "eval/Cost", "eval/Reward", "eval/Length", "loss/actor", "update/env_step"]
    rows = [[step, 9.0 + seed, 500.0, 200.0, 0.1, step] for step in (2499, 4999)]
    lines = ["\t".join(map(str, row)) for row in [names, *rows, [7499, 1]]]
    (folder / "progress.txt").write_text("\n".join(lines))
    if settings:
        (folder / "config.yaml").write_text(yaml.dump({**SETTINGS, "seed": seed}, sort_keys=False))
    return folder / "progress.txt"


def test_osrl_logs_with_their_settings(tmp_path: Path) -> None:
    paths = [write_run(tmp_path, seed) for seed in (0, 10)]
    summary = import_files(paths, str(tmp_path / "store"), "osrl", preset="osrl")
    assert (summary.runs, summary.evaluations) == (2, 4)
    store = ResultStore(tmp_path / "store")
    runs = store.runs().sort_values("seed")
    assert runs["algorithm"].tolist() == ["bcql", "bcql"]
    assert runs["seed"].tolist() == [0, 10]
    assert runs["steps"].tolist() == [4999, 4999]
    assert runs["config_id"].nunique() == 1
    assert runs["hp_actor_lr"].tolist() == [0.001, 0.001]
    assert runs["hp_betas"].tolist() == ["[0.9, 0.99]"] * 2
    settings = {name for name in runs if name.startswith("hp_")}
    assert settings == {"hp_actor_lr", "hp_betas", "hp_a_hidden_sizes"}
    evaluations = store.evaluations(seed=10)
    assert set(evaluations["cost_limit"]) == {20.0}
    assert evaluations["normalized_cost"].tolist() == pytest.approx([0.95, 0.95])
    assert sum("left out line 4" in note for note in summary.notes) == 2


def test_what_is_named_comes_before_a_preset(tmp_path: Path) -> None:
    paths = [write_run(tmp_path, seed, settings=seed == 0) for seed in (0, 1)]
    import_files(
        paths, str(tmp_path / "store"), "osrl", {"cost_return_mean": "eval/Length"},
        {"algorithm": "mine", "task": "BallRun"}, 40.0,
        preset="osrl", name_pattern="{}-cost-{}/BCQL_seed{seed}-{}/progress.txt",
    )  # fmt: skip
    evaluations = ResultStore(tmp_path / "store").evaluations()
    assert set(evaluations["algorithm"]) == {"mine"}
    assert set(evaluations["task"]) == {"OfflineBallRun-v0"}
    assert set(evaluations["normalized_cost"]) == {5.0}
    assert set(evaluations["seed"]) == {0, 1}


@pytest.mark.parametrize("last", ["train/best_idx", "length/c_20_r_500", "cost/c_20_r_500"])
def test_each_target_of_a_return_conditioned_method_is_a_policy(tmp_path: Path, last: str) -> None:
    row = {
        "Steps": 2499, "train/best_idx": 1, "cost/c_10_r_400": 9.0, "cost/c_20_r_500": 19.0,
        "ret/c_10_r_400": 400.0, "ret/c_20_r_500": 500.0, "length/c_10_r_400": 200.0,
        "length/c_20_r_500": 200.0,
    }  # fmt: skip
    row[last] = row.pop(last)
    if last.startswith("cost"):
        row = {name: value for name, value in row.items() if not name.startswith("length")}
    text = "\t".join(row) + "\n" + "\t".join(map(str, row.values()))
    (tmp_path / "progress.txt").write_text(text + "\n")
    constants = {"algorithm": "cdt", "task": "CarRun", "seed": 0}
    arguments = ([tmp_path / "progress.txt"], str(tmp_path / "store"))
    import_files(*arguments, "a", constants=constants, preset="osrl")
    found = ResultStore(tmp_path / "store").evaluations().sort_values("policy")
    assert found["policy"].tolist() == ["c_10_r_400", "c_20_r_500"]
    assert found["cost_limit"].tolist() == [10.0, 20.0]
    assert found["reward_return_mean"].tolist() == [400.0, 500.0]
    assert found["normalized_cost"].tolist() == pytest.approx([0.9, 0.95])
    # Without a line break the last number counts only where nobody wants it.
    (tmp_path / "progress.txt").write_text(text)
    if last == "train/best_idx":
        import_files(*arguments, "b", constants=constants, preset="osrl")
    else:
        with pytest.raises(InvalidInput, match="holds no whole row: left out line 2"):
            import_files(*arguments, "b", constants=constants, preset="osrl")


def write_export(path: Path, prefix: str = "") -> Path:
    rows = []
    for rate in (0.001, 0.0003):
        for seed in range(3):
            crashed = (rate, seed) == (0.001, 2)
            settings = {"task": "OfflineCarRun-v0", "algo": "BCQL", "seed": seed, "actor.lr": rate,
                        "batch_size": 512, "cost_limit": 10}  # fmt: skip
            rows.append(
                {
                    "Name": f"run-{rate}-{seed}", "State": "crashed" if crashed else "finished",
                    "Notes": "-", "Created": "2024-05-01T10:00:00.000Z", "Runtime": 99 + seed,
                    **{prefix + name: value for name, value in settings.items()},
                    "eval/Reward": None if crashed else 500 + 100 * (rate < 0.001) + seed,
                    "eval/Cost": None if crashed else 8 + seed / 2, "loss/actor": 0.1 * seed,
                    "loss": 0.3 * seed, "best_reward": 501 + seed, "_step": 99_999 - seed,
                }
            )  # fmt: skip
    text = pandas.DataFrame(rows).to_csv(index=False, quoting=csv.QUOTE_ALL)
    path.write_text(text.rstrip("\n"))
    return path


@pytest.mark.parametrize("prefix", ["", "config.", "config/"])
def test_the_table_of_runs_of_weights_and_biases(tmp_path: Path, prefix: str) -> None:
    path = write_export(tmp_path / "wandb_export.csv", prefix)
    summary = import_files([path], str(tmp_path / "store"), "wandb", preset="wandb")
    assert (summary.runs, summary.evaluations) == (6, 5)
    assert "loss" in summary.ignored and "best_reward" in summary.ignored
    assert "hyperparameters: actor_lr, batch_size" in summary.notes
    store = ResultStore(tmp_path / "store")
    runs = store.runs()
    assert runs["config_id"].nunique() == 2
    assert runs["status"].value_counts().to_dict() == {"completed": 5, "failed": 1}
    chosen = select(store.to_judge()).iloc[0]
    assert chosen["safe"] and chosen["seeds"] == 3
    assert set(store.evaluations()["cost_limit"]) == {10.0}


def test_columns_that_a_preset_is_not_to_take(tmp_path: Path) -> None:
    path = write_export(tmp_path / "wandb_export.csv")
    arguments = ([path], str(tmp_path / "store"))
    import_files(*arguments, "a", preset="wandb", leave_out=["batch_size", "cost_limit"])
    runs = ResultStore(tmp_path / "store").runs()
    assert "hp_batch_size" not in runs
    with pytest.raises(InvalidInput, match=r"leave out: .* has no column 'batch'; did you mean"):
        import_files(*arguments, "b", preset="wandb", leave_out=["batch"])
    with pytest.raises(InvalidInput, match="'batch_size' is to be left out"):
        import_files(*arguments, "b", {"hp_b": "batch_size"}, leave_out=["batch_size"])
    with pytest.raises(InvalidInput, match="preset: 'wanb' is not one of osrl, wandb; did you"):
        import_files(*arguments, "b", preset="wanb")


def test_what_is_no_table_of_runs_is_said(tmp_path: Path) -> None:
    path = tmp_path / "chart.csv"
    path.write_text("Step,a - eval/Reward,a - eval/Reward__MIN,a - eval/Reward__MAX\n1,2,3,4\n")
    with pytest.raises(InvalidInput, match=r"chart\.csv' is the export of a chart"):
        import_files([path], str(tmp_path / "store"), "a", preset="wandb")
    run = write_run(tmp_path, 0)
    run.with_name("config.yaml").write_text("- a\n- list\n")
    with pytest.raises(InvalidInput, match=r"config\.yaml' does not hold settings"):
        import_files([run], str(tmp_path / "store"), "a", preset="osrl")
    run.with_name("config.yaml").write_text("a: [1\n")
    with pytest.raises(InvalidInput, match=r"config\.yaml' cannot be read"):
        import_files([run], str(tmp_path / "store"), "a", preset="osrl")
