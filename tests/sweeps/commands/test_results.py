import io
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas
import psutil
import pytest

from safesweep.analysis.ablations.flrp import EXPECTILES
from safesweep.analysis.selection.choice import choose, select
from safesweep.analysis.store.reader import ResultStore
from safesweep.sweeps.cli import main
from safesweep.trainables.store.imports import import_evaluations
from safesweep.trainables.store.reader import StoreReader
from safesweep.trainables.store.writer import ResultWriter
from tests.html_pages import content_of

LEVELS = (0.6, 0.9, 0.99)
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def safesweep(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a command on `tmp_path / "store"`: exit code, standard output, standard error."""

    def run(*words: str) -> tuple[int, str, str]:
        code = main([*words, "--storage", str(tmp_path / "store")])
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def two_sweeps(write_sweep) -> tuple[list[str], list[str]]:
    first = write_sweep("first", [{"feasibility_expectile": level} for level in LEVELS])
    second = write_sweep(
        "second", [{"feasibility_expectile": 0.95}], statuses={1: "diverged"}, also=first
    )
    return first, second


def test_list_counts_runs_by_status(safesweep: Run, two_sweeps) -> None:
    code, out, _ = safesweep("list", "--format", "json")
    assert code == 0
    rows = {row["sweep"]: row for row in json.loads(out)}
    assert rows["first"]["runs"] == rows["first"]["completed"] == 9
    assert (rows["second"]["runs"], rows["second"]["diverged"]) == (12, 1)
    code, out, _ = safesweep("list")
    assert "second" in out
    assert [line for line in out.splitlines() if len(line) > 100] == []


def test_list_of_an_empty_store_is_an_empty_list(safesweep: Run, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    assert safesweep("list", "--format", "json")[:2] == (0, "[]\n")


def test_runs_that_have_not_ended_are_open(safesweep: Run, tmp_path: Path) -> None:
    writer = ResultWriter(str(tmp_path / "store"), "planned")
    writer.write_sweep("name: planned", ["abc-0", "abc-1"], "running")
    rows = json.loads(safesweep("list", "--format", "json")[1])
    assert (rows[0]["runs"], rows[0]["open"]) == (2, 2)
    code, out, _ = safesweep("show", "planned")
    assert code == 0
    assert "2 runs: 2 open" in out


def test_stopped_runs_are_shown_and_never_selected(safesweep: Run, write_sweep, tmp_path) -> None:
    whole = write_sweep("first", [{"feasibility_expectile": 0.6}])
    write_sweep("second", [{"feasibility_expectile": 0.9}], also=whole,
                statuses=dict.fromkeys((0, 1, 2), "stopped"))  # fmt: skip
    beat = {
        "trial_id": "abc", "sweep": "second", "task": "OfflineBallRun-v0", "run_ids": ["a-0"],
        "step": 500, "steps": 2000, "waiting": True, "host": "node", "time": "2026-01-01T00:00:00",
    }  # fmt: skip
    writer = ResultWriter(str(tmp_path / "store"), "second")
    writer.write_bytes("heartbeats/abc.json", json.dumps(beat).encode())
    code, out, err = safesweep("show", "second")
    assert code == 0
    assert "6 runs: 3 completed, 3 stopped" in out
    assert "waiting at a rung: OfflineBallRun-v0, step 500 of 2000" in err
    stopped = [line.split() for line in out.splitlines() if "rank 2 of 2 at step 1000" in line]
    assert len(stopped) == 3 and all({"stopped", "1000"} <= set(line) for line in stopped)
    rows = json.loads(safesweep("select", "--sweep", "second", "--format", "json")[1])
    assert [row["config_id"] for row in rows] == [whole[0].rsplit("-", 1)[0]]
    assert "1 left out: stopped early" in rows[0]["reason"]
    words = ("statistics", "--every-configuration", "--format", "json")
    rows = json.loads(safesweep(*words)[1])
    assert {row["config_id"] for row in rows} == {whole[0].rsplit("-", 1)[0]}


def test_degenerate_runs_are_shown_and_counted_in_claims(safesweep: Run, write_sweep) -> None:
    configs = [{"feasibility_expectile": level} for level in EXPECTILES]
    runs = write_sweep(
        "flrp-table8-small", configs, task="OfflineCarRun-v0",
        errors={1: "degenerate: nothing is feasible"},
        metrics=lambda config, seed: {"feasible_recall": config["feasibility_expectile"]},
    )  # fmt: skip
    out = safesweep("show", "flrp-table8-small")[1]
    assert f"{len(EXPECTILES)} completed runs degenerated:" in out
    assert out.count("degenerate: nothing is feasible") == len(EXPECTILES)
    _, out, err = safesweep("reproduce", "flrp-table8", "--sweep", "flrp-table8-small")
    assert f"flrp-table8: {len(EXPECTILES)} runs degenerated" in err
    assert f"{len(EXPECTILES)} of its runs degenerated" in out
    assert any(run in err for run in runs)


def test_show_prints_plan_progress_and_failures(safesweep: Run, two_sweeps, tmp_path) -> None:
    beat = {
        "trial_id": "abc", "sweep": "second", "task": "OfflineBallRun-v0", "run_ids": ["a-0"],
        "step": 500, "steps": 2000, "host": "node", "time": "2026-01-01T00:00:00",
    }  # fmt: skip
    writer = ResultWriter(str(tmp_path / "store"), "second")
    writer.write_bytes("heartbeats/abc.json", json.dumps(beat).encode())
    code, out, err = safesweep("show", "second")
    assert code == 0
    assert "12 runs: 11 completed, 1 diverged" in out
    assert "name: second" in out
    assert "hp_feasibility_expectile: 0.6, 0.9, 0.95, 0.99" in out
    assert "loss is not finite" in out
    assert "step 500 of 2000" in err
    assert [line for line in out.splitlines() if len(line) > 100] == []


def test_show_has_the_best_safe_configuration_with_what_varies(
    safesweep: Run, write_sweep, tmp_path: Path
) -> None:
    def scores(config, seed, step):
        level = config["feasibility_expectile"]
        # The highest reward breaks the limit of the sweep, 5, and not that of its runs, 10.
        return 100 * level, [8.0 if level > 0.9 else 4.0]

    configs = [
        {"feasibility_expectile": level, "refinement_steps": 3} for level in (0.6, 0.9, 0.95)
    ]
    runs = write_sweep("first", configs, scores=scores)
    writer = ResultWriter(str(tmp_path / "store"), "first")
    spec = "name: first\nalgorithm: flrp\ntasks: [OfflineBallRun-v0]\ncost_limit: 5\n"
    writer.write_sweep(spec, runs, "completed")
    out = safesweep("show", "first")[1]
    assert "best safe configurations, by max_reward_safe (maximises normalized_reward" in out
    assert "a cost limit of 5" in out
    chosen = runs[3].rsplit("-", 1)[0]
    (row,) = [line.split() for line in out.splitlines() if line.startswith("flrp Offline")]
    assert row == ["flrp", "OfflineBallRun-v0", chosen, "0.9", "0.8", "3"]
    assert f"{chosen}: feasibility_expectile=0.9\n" in out
    writer.write_sweep(spec.replace("5", "1"), runs, "completed")
    out = safesweep("show", "first")[1]
    assert "flrp OfflineBallRun-v0: none; none of 3 safe" in out


def test_show_in_other_formats_is_one_row_per_run(safesweep: Run, two_sweeps) -> None:
    first, second = two_sweeps
    _, out, _ = safesweep("show", "second", "--format", "csv")
    frame = pandas.read_csv(io.StringIO(out))
    assert set(frame["run_id"]) == {*first, *second}


def test_query_prints_each_format(
    two_sweeps, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    query = "SELECT seed, count(*) AS runs FROM runs GROUP BY seed ORDER BY seed"
    expected = [{"seed": seed, "runs": 4} for seed in (0, 1, 2)]
    outputs = {}
    for kind in ("table", "csv", "json", "parquet"):
        words = ["query", query, "--format", kind, "--storage", str(tmp_path / "store")]
        assert main(words) == 0
        outputs[kind] = capfdbinary.readouterr().out
    assert json.loads(outputs["json"]) == expected
    assert pandas.read_csv(io.BytesIO(outputs["csv"])).to_dict("records") == expected
    assert pandas.read_parquet(io.BytesIO(outputs["parquet"])).to_dict("records") == expected
    assert b"seed   runs" in outputs["table"]


@pytest.mark.parametrize(
    "query", ["COPY runs TO 'copy.csv'", "SELECT * FROM read_text('pyproject.toml')", "selec"]
)
def test_a_query_that_is_refused_is_one_line_and_code_2(
    safesweep: Run, two_sweeps, query: str
) -> None:
    code, out, err = safesweep("query", query)
    assert (code, out) == (2, "")
    assert err.startswith("safesweep: query: ")
    assert err.count("\n") == 1


def test_select_prints_the_choice_and_why(safesweep: Run, two_sweeps) -> None:
    code, out, _ = safesweep("select", "--sweep", "first")
    assert code == 0
    assert "2 of 3 safe; beats" in out
    assert "feasibility_expectile=0.9" in out
    assert [line for line in out.splitlines() if len(line) > 100] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [((), "step last: "), (("--step", "best"), "online"), (("--step", "1000"), "step 1000: ")],
)
def test_the_step_that_was_judged_is_always_said(
    safesweep: Run, two_sweeps, words: tuple[str, ...], said: str
) -> None:
    assert said in safesweep("select", *words)[1].splitlines()[0]
    rows = json.loads(safesweep("select", *words, "--format", "json")[1])
    assert {row["step_choice"] for row in rows} == {words[1] if words else "last"}


def test_select_as_json_has_everything(safesweep: Run, two_sweeps) -> None:
    rows = json.loads(safesweep("select", "--sweep", "first", "--format", "json")[1])
    assert len(rows) == 1
    assert rows[0]["hp_feasibility_expectile"] == 0.9
    assert rows[0]["safe"] is True
    assert rows[0]["step"] == 2000
    assert {"candidates", "safe_candidates", "runner_up", "margin", "reason"} <= set(rows[0])


def test_select_judges_by_another_limit_rule_and_step(safesweep: Run, two_sweeps) -> None:
    def chosen(*words: str) -> dict[str, object]:
        return json.loads(safesweep("select", "--format", "json", *words)[1])[0]

    assert chosen("--cost-limit", "100")["hp_feasibility_expectile"] == 0.99
    assert chosen("--cost-limit", "5")["hp_feasibility_expectile"] == 0.6
    assert chosen("--rule", "min_cost")["hp_feasibility_expectile"] == 0.6
    assert chosen("--step", "1000")["step"] == 1000
    assert "online" in str(chosen("--step", "best")["reason"])
    front = chosen("--rule", "pareto")["front"]
    assert isinstance(front, list)
    assert len(front) == 3
    share = chosen("--rule", "zero_violation", "--cost-limit", "9", "--confidence", "0.9")
    assert share["bound"] == pytest.approx(1 - 0.1 ** (1 / 12))


def test_a_configuration_with_a_diverged_seed_is_left_out(safesweep: Run, two_sweeps) -> None:
    rows = json.loads(safesweep("select", "--sweep", "second", "--format", "json")[1])
    assert rows[0]["candidates"] == 3
    assert "1 left out: lost a seed" in rows[0]["reason"]


def test_a_task_goes_by_its_short_name_too(safesweep: Run, two_sweeps) -> None:
    rows = json.loads(safesweep("select", "--task", "BallRun", "--format", "json")[1])
    assert rows[0]["task"] == "OfflineBallRun-v0"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["select", "--rule", "max_reward_save"], "rule: .*did you mean 'max_reward_safe'"),
        (["select", "--sweep", "frist"], "sweep: 'frist' .*did you mean 'first'"),
        (["select", "--algorithm", "flpr"], "algorithm: 'flpr' .*did you mean 'flrp'"),
        (["select", "--task", "CarRun"], "task: 'OfflineCarRun-v0'"),
        (["select", "--step", "7"], "step: nothing was evaluated at 7; there are 1000, 2000"),
        (["select", "--step", "frist"], "step: 'frist'"),
        (["select", "--confidence", "2"], "confidence: 2.0"),
        (["select", "--cost-limit", "-1"], "cost_limit: -1.0"),
        (["show", "frist"], "sweep: 'frist' .*did you mean 'first'"),
        (["show"], "sweep"),
        (["list", "--format", "tabel"], "did you mean 'table'"),
    ],
)
def test_bad_input_is_one_line_and_code_2(
    safesweep: Run, two_sweeps, words: list[str], message: str
) -> None:
    code, out, err = safesweep(*words)
    assert (code, out) == (2, "")
    assert re.search(message, err)
    assert err.startswith("safesweep: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("words", [["list"], ["show", "x"], ["query", "SELECT 1"], ["select"]])
def test_a_store_that_is_not_there_is_one_line(safesweep: Run, words: list[str]) -> None:
    code, _, err = safesweep(*words)
    assert code == 2
    assert "there is no result store at" in err
    assert err.count("\n") == 1


def test_a_store_without_evaluations_has_nothing_to_select(safesweep: Run, tmp_path) -> None:
    (tmp_path / "store").mkdir()
    code, _, err = safesweep("select")
    assert code == 0
    assert "no evaluations to choose from" in err


@pytest.fixture
def survivor_and_whole(write_sweep) -> tuple[str, str]:
    """Two configurations of one sweep: of one two seeds diverged and the third is safe and better
    than the other one, of which all three are well."""
    whole = write_sweep("whole", [{"feasibility_expectile": 0.6}])
    better = {"feasibility_expectile": 0.9}
    lost = write_sweep("both", [better], seeds=(0, 1), statuses={0: "diverged", 1: "diverged"})
    survived = write_sweep("survived", [better], seeds=(2,))
    write_sweep("both", [better], seeds=(0, 1), statuses={0: "diverged", 1: "diverged"},
                also=[*whole, *survived])  # fmt: skip
    assert {run.rsplit("-", 1)[0] for run in (*lost, *survived)} == {lost[0].rsplit("-", 1)[0]}
    return lost[0].rsplit("-", 1)[0], whole[0].rsplit("-", 1)[0]


def test_python_and_every_command_choose_the_same(
    safesweep: Run, survivor_and_whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    survivor, whole = survivor_and_whole
    store = ResultStore(tmp_path / "store")
    evaluations = store.evaluations(sweep="both")
    # Nothing in these rows says that two seeds of the better one are lost.
    assert select(evaluations)["config_id"].tolist() == [survivor]
    assert select(evaluations, runs=store.runs(sweep="both"))["config_id"].tolist() == [whole]
    assert choose(store, sweep="both").chosen["config_id"].tolist() == [whole]
    rows = json.loads(safesweep("select", "--sweep", "both", "--format", "json")[1])
    assert [row["config_id"] for row in rows] == [whole]
    page = tmp_path / "page.html"
    assert safesweep("report", "both", "--output", str(page))[0] == 0
    (choice,) = content_of(page.read_text())["choices"]
    assert choice["settings"]["feasibility_expectile"] == 0.6
    assert "1 left out: lost a seed" in choice["reason"]
    confirmed = []

    def evaluate(store, terms, choice, runs, limit, kind="evaluated") -> list[dict[str, object]]:
        confirmed.append(choice["config_id"])
        return [{**run, "policy": choice["policy"], "kind": kind, "normalized_reward": 0.5,
                 "normalized_cost": 0.5} for run in runs.to_dict("records")]  # fmt: skip

    monkeypatch.setattr("safesweep.sweeps.commands.confirm.evaluate_runs", evaluate)
    assert safesweep("confirm", "--sweep", "both")[0] == 0
    assert confirmed == [whole]
    out = safesweep("statistics", "--sweep", "both", "--format", "json")[1]
    means = {row["metric"]: row["value"] for row in json.loads(out) if row["statistic"] == "mean"}
    assert means["normalized_reward"] == pytest.approx(0.61)


SWEEP_FILE = "name: first\nalgorithm: flrp\ntasks: [OfflineBallRun-v0]\n"


@pytest.mark.parametrize(
    ("own", "words", "chosen"),
    [
        ("", (), 0.9),
        ("objective: {subject_to: {normalized_cost: 0.5}}", (), 0.6),
        ("objective: {subject_to: {normalized_cost: 0.5}}", ("--cost-limit", "20"), 0.9),
        (
            "objective: {subject_to: {normalized_cost: 0.5}}",
            ("--subject-to", "normalized_cost=1"),
            0.9,
        ),
        ("objective: {subject_to: {}}", (), 0.99),
        ("objective: {maximize: reward_return_mean, subject_to: {cost_return_mean: 4}}", (), 0.6),
        ("objective: {subject_to: {violation_rate: 0.5, normalized_cost: 2}}\ncost_limit: 6", (),
         0.6),
        ("cost_limit: 5", (), 0.6),
        ("cost_limit: 5", ("--cost-limit", "10"), 0.9),
        ("", ("--subject-to", "none"), 0.99),
    ],
)  # fmt: skip
def test_the_sweeps_own_objective_and_constraint_count(
    safesweep: Run, two_sweeps, tmp_path: Path, own: str, words: tuple[str, ...], chosen: float
) -> None:
    writer = ResultWriter(str(tmp_path / "store"), "first")
    writer.write_sweep(f"{SWEEP_FILE}{own}\n", two_sweeps[0], "completed")
    out = safesweep("select", "--sweep", "first", "--format", "json", *words)[1]
    row = json.loads(out)[0]
    assert row["hp_feasibility_expectile"] == chosen
    assert row["safe"]
    page = tmp_path / "page.html"
    assert safesweep("report", "first", "--output", str(page), *words)[0] == 0
    (choice,) = content_of(page.read_text())["choices"]
    assert choice["settings"]["feasibility_expectile"] == chosen


def test_what_a_choice_goes_after_is_said(safesweep: Run, two_sweeps) -> None:
    words = ("select", "--maximize", "reward_return_mean", "--subject-to", "violation_rate=0.3")
    out = safesweep(*words)[1]
    said = "maximises reward_return_mean with violation_rate at most 0.3"
    assert out.splitlines()[1] == said
    assert said in " ".join(out.split())
    for bad, message in (
        (("--maximize", "reward"), "maximize: 'reward'"),
        (("--subject-to", "violation_rate"), "subject_to: 'violation_rate' is not"),
        (("--subject-to", "violations=1"), "subject_to: 'violations'"),
        (("--subject-to", "violation_rate=-1"), "subject_to.violation_rate: -1"),
    ):
        code, out, err = safesweep("select", *bad)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert message in err


def test_the_sentences_name_the_policy(safesweep: Run, tmp_path: Path) -> None:
    rows = pandas.DataFrame(
        {"algorithm": "lspc", "task": "OfflineBallRun-v0", "seed": [0, 1] * 2, "cost_limit": 10,
         "normalized_reward": 0.5, "normalized_cost": 0.5,
         "policy": ["lspc_o", "lspc_o", "lspc_s", "lspc_s"]}
    )  # fmt: skip
    import_evaluations(rows, str(tmp_path / "store"), "own")
    out = safesweep("select")[1]
    for policy in ("lspc_o", "lspc_s"):
        assert f"lspc OfflineBallRun-v0 {policy}: 1 of 1 safe" in out


def test_the_home_of_an_unknown_user_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    for command in ("list", "select"):
        assert main([command, "--storage", "~nobody-of-this-name/store"]) == 2
        error = capfd.readouterr().err
        assert error.startswith("safesweep: storage: '~nobody-of-this-name/store'")
        assert error.count("\n") == 1


def test_list_reads_the_runs_once(
    safesweep: Run, two_sweeps, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    original = StoreReader._dataset

    def counted(self: StoreReader, table: str, *parts: object) -> object:
        read.append(table)
        return original(self, table, *parts)

    monkeypatch.setattr(StoreReader, "_dataset", counted)
    assert safesweep("list")[0] == 0
    assert read.count("runs") == 1


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)],
)
def test_an_interrupted_query_ends_at_once_without_a_traceback(
    two_sweeps, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    query = "SELECT count(*) FROM range(10_000_000_000_000)"
    run = "import sys; from safesweep.sweeps.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", run, "query", query]
    process = subprocess.Popen(
        [*command, "--storage", str(tmp_path / "store"), "--timeout", "60"],
        stderr=subprocess.PIPE,
        text=True,
    )
    started = psutil.Process(process.pid)
    while process.poll() is None and not any("duckdb" in m.path for m in started.memory_maps()):
        time.sleep(0.1)
    time.sleep(2)  # A query that has not begun yet ends as well.
    process.send_signal(number)
    assert process.communicate()[1] == "safesweep: interrupted\n"
    assert process.returncode == code


def test_text_that_a_query_makes_counts_as_its_memory(safesweep: Run, two_sweeps) -> None:
    code, _, err = safesweep("query", "SELECT repeat('x', 3_900_000_000)", "--memory", "256")
    assert code == 2
    assert err == "safesweep: query: takes more memory than its limit of 256 MiB (--memory)\n"
