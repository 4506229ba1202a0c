"""Everything that was reproduced at a scale on one page: figures, verdicts, and why."""

import hashlib
import shutil
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import pandas

from safesweep.analysis.claims import SUPPORTED, overall_verdict
from safesweep.analysis.reproduction import Reproduction, paper_scorecard
from safesweep.analysis.store.reader import ResultStore
from safesweep.search_spaces.validation import InvalidInput, is_missing
from safesweep.trainables.tasks.registry import TASKS

REMARKS = "remarks.csv"
LARGEST_DATA = 1_000_000
"""Bytes of a figure's data up to which a page has it beside the figure; the store keeps all."""
TITLES = {
    "flrp": "FLRP",
    "lspc": "LSPC",
    "r2pac": "R2PAC",
    "flp": "FLP",
    "safefql": "SafeFQL",
    "safesweep": "Beyond the papers",
}
DATA = {"": "figure", "-published": "beside the printed numbers", "-claims": "claims"}
"""What the tables beside a figure hold, by the end of their name."""

Remarks = Mapping[tuple[str, str], str]
"""Why a claim came out as it did, by ablation and claim."""


def store_digest(store: ResultStore, run_ids: Sequence[str]) -> str:
    """A digest of what runs scored: equal for stores that hold the same results of them.

    It covers run_id, policy, step and the mean returns of every evaluation, and nothing that
    depends on the clock, the machine or the layout of the files.
    """
    rows = store.evaluations(
        columns=["run_id", "policy", "step", "reward_return_mean", "cost_return_mean"],
        run_id=list(run_ids),
    )
    lines = sorted(",".join(map(repr, row)) for row in rows.itertuples(index=False, name=None))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def load_remarks(folder: Path) -> Remarks:
    """Why claims came out as they did, by ablation and claim: `remarks.csv` of a page's folder.

    Raises:
        InvalidInput: the file lacks a column, or has two remarks on a claim.
    """
    path = folder / REMARKS
    if not path.is_file():
        return {}
    frame = pandas.read_csv(path, dtype=str, keep_default_na=False)
    wanted = ["ablation", "claim", "remark"]
    if list(frame.columns) != wanted:
        raise InvalidInput(f"{path}: its columns are not {', '.join(wanted)}")
    doubled = frame[frame.duplicated(["ablation", "claim"])]
    if not doubled.empty:
        row = doubled.iloc[0]
        raise InvalidInput(f"{path}: two remarks on {row['ablation']} {row['claim']}")
    rows = frame.itertuples(index=False, name=None)
    return {(ablation, claim): remark for ablation, claim, remark in rows}


def unexplained(done: Sequence[Reproduction], remarks: Remarks) -> list[tuple[str, str]]:
    """Ablation and name of each claim that is not supported and has no remark."""
    return [
        (entry.ablation.id, str(claim))
        for entry in done
        for claim, findings in entry.scorecard.groupby("claim", sort=False)
        if overall_verdict(findings["verdict"].tolist()) != SUPPORTED
        and not remarks.get((entry.ablation.id, str(claim)))
    ]


def write_page(
    done: Sequence[Reproduction],
    findings: pandas.DataFrame,
    store: ResultStore,
    remarks: Remarks,
    folder: Path,
    command: str,
) -> list[Path]:
    """Write `README.md` into `folder`, and each ablation's figure, comparison and claims beside it.

    Args:
        done: what was reproduced, at one scale.
        findings: their scorecards with the columns `paper` and `ablation`.
        store: where their runs are.
        remarks: what to say on claims.
        command: what makes the page again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "README.md"]
    for entry in done:
        for path in entry.paths:
            small = path.suffix == ".csv" and path.stat().st_size <= LARGEST_DATA
            if path.suffix == ".png" or small:
                paths.append(Path(shutil.copy(path, folder / path.name)))
    names = [
        str(sweep["name"]) for entry in done for sweep in entry.ablation.sweeps.get(entry.scale, ())
    ]
    runs = store.runs(sweep=sorted(set(names)))
    completed = runs[runs["status"] == "completed"]
    digest = store_digest(store, sorted(completed["run_id"].unique()))
    versions = ", ".join(sorted(completed["code_version"].dropna().unique()))
    lines = [
        f"# The ablations at scale {done[0].scale}",
        "",
        f"Made by `{command}` from a store of {completed['run_id'].nunique():,} completed runs "
        f"(code {versions}). Digest of their results: "
        f"`{digest}`. Hollow markers are printed numbers; "
        "bands and ± are one standard deviation over seeds. A claim is judged on each "
        "task; it is supported or contradicted where some task says so and none says otherwise.",
        "",
        *_table(paper_scorecard(findings)),
    ]
    for paper in dict.fromkeys(entry.ablation.paper for entry in done):
        lines += ["", f"## {TITLES.get(paper, paper)}"]
        for entry in done:
            if entry.ablation.paper == paper:
                lines += ["", *_section(entry, remarks, {path.name for path in paths})]
    paths[0].write_text("\n".join(lines) + "\n", encoding="utf-8")
    return paths


def _section(entry: Reproduction, remarks: Remarks, there: Set[str]) -> list[str]:
    """A section of the page; `there` names the files beside it."""
    ablation = entry.ablation
    name = f"{ablation.id}-{entry.scale}"
    rows = []
    for claim, findings in entry.scorecard.groupby("claim", sort=False):
        verdict = overall_verdict(findings["verdict"].tolist())
        rows.append(
            {
                "claim": findings["statement"].iloc[0],
                "verdict": verdict,
                "found": "; ".join(_finding(row) for row in findings.to_dict("records")),
                "why": remarks.get((ablation.id, str(claim)), ""),
            }
        )
    return [
        f"### {ablation.id}: {ablation.title}",
        "",
        f"Varies: {ablation.varies}. At this scale: {ablation.costs[entry.scale]}.",
        "",
        f"![{ablation.id}]({name}.png)",
        "",
        *_table(pandas.DataFrame(rows)),
        "",
        "Data: " + ", ".join(_linked(there, name, suffix) for suffix in DATA) + ".",
    ]


def _linked(there: Set[str], name: str, suffix: str) -> str:
    file = f"{name}{suffix}.csv"
    what = DATA[suffix]
    return f"[{what}]({file})" if file in there else f"{what} (in the store)"


def _finding(row: Mapping[Any, Any]) -> str:
    """A task's verdict with its effect and interval: `BallRun supported, 0.12 (0.03 to 0.21)`."""
    task = str(row["task"])
    name = TASKS[task].key if task in TASKS else task
    text = f"{name} {row['verdict']}".strip()
    effect, low, high = (float(row[key]) for key in ("effect", "low", "high"))
    if not is_missing(effect):
        text += f", {effect:.3g}"
    if not is_missing(low):
        text += f" ({low:.3g} to {high:.3g})"
    remark = str(row["remark"] or "")
    return f"{text}: {remark}" if remark else text


def _table(frame: pandas.DataFrame) -> list[str]:
    """Rows of a Markdown table."""
    lines = ["| " + " | ".join(map(str, frame.columns)) + " |"]
    lines.append("|" + "---|" * len(frame.columns))
    for row in frame.itertuples(index=False, name=None):
        lines.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |")
    return lines
