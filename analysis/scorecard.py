"""Everything that was reproduced at a scale on one page: figures, verdicts, and why."""

import hashlib
import math
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas

from safesweep.analysis.claims import INTERVAL_LEVEL, LEVEL, SUPPORTED, claim_verdicts
from safesweep.analysis.reproduction import Reproduction, paper_scorecard
from safesweep.analysis.store.reader import ResultStore
from safesweep.search_spaces.validation import InvalidInput, is_missing
from safesweep.trainables.tasks.registry import TASKS

REMARKS = "remarks.csv"
TITLES = {
    "flrp": "FLRP",
    "lspc": "LSPC",
    "r2pac": "R2PAC",
    "flp": "FLP",
    "safefql": "SafeFQL",
    "safesweep": "Beyond the papers",
    "published": "What published defects cost",
}
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
    claims = claim_verdicts(all_findings(done))
    silent = claims[claims["verdict"] != SUPPORTED]
    pairs = zip(silent["ablation"].astype(str), silent["claim"].astype(str), strict=True)
    return [pair for pair in pairs if not remarks.get(pair)]


def all_findings(done: Sequence[Reproduction]) -> pandas.DataFrame:
    """The scorecards of several ablations, with their paper and id."""
    cards = [
        entry.scorecard.assign(paper=entry.ablation.paper, ablation=entry.ablation.id)
        for entry in done
    ]
    return pandas.concat(cards, ignore_index=True)


def write_page(
    done: Sequence[Reproduction],
    store: ResultStore,
    remarks: Remarks,
    folder: Path,
    command: str,
) -> list[Path]:
    """Write `README.md` into `folder`, and each ablation's figure beside it.

    Args:
        done: what was reproduced, at one scale or from the same sweeps.
        store: where their runs are.
        remarks: what to say on claims.
        command: what makes the page again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "README.md"]
    for entry in done:
        for path in entry.paths:
            if path.suffix == ".png":
                paths.append(Path(shutil.copy(path, folder / path.name)))
    runs = store.runs(sweep=sorted({name for entry in done for name in entry.sweeps}))
    completed = runs[runs["status"] == "completed"]
    digest = store_digest(store, sorted(completed["run_id"].unique()))
    versions = ", ".join(sorted(completed["code_version"].dropna().unique()))
    made = (
        f"Made by `{command}` from a store of {completed['run_id'].nunique():,} completed runs "
        f"(code {versions}). Digest of their results: `{digest}`."
    )
    paths[0].write_text(page_text(done, remarks, made), encoding="utf-8")
    return paths


def write_data(done: Sequence[Reproduction], path: Path) -> int:
    """Write the tables of ablations into one archive (.zip): of each what its figure shows, ours
    beside the printed numbers, and its claims. Returns how many. The same tables are the same file.

    Raises:
        InvalidInput: the file cannot be written.
    """
    tables = [table for entry in done for table in entry.paths if table.suffix == ".csv"]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for table in tables:
                # Without the clock, which would make the same tables another file.
                entry_of_table = zipfile.ZipInfo(table.name)
                entry_of_table.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry_of_table, table.read_bytes())
    except OSError as problem:
        raise InvalidInput(f"data: cannot write {str(path)!r}: {problem.strerror}") from None
    return len(tables)


def page_text(done: Sequence[Reproduction], remarks: Remarks, made: str) -> str:
    """The page in Markdown.

    Args:
        done: what was reproduced, at one scale or from the same sweeps.
        remarks: what to say on claims.
        made: what the page was made from, in a sentence or two.
    """
    findings = all_findings(done)
    claims = claim_verdicts(findings)
    drawn, again = f"at scale {done[0].scale}", f"all --scale {done[0].scale}"
    if done[0].scale is None:
        drawn = f"of {', '.join(done[0].sweeps)}"
        ids = [entry.ablation.id for entry in done]
        again = " ".join([*ids, *(f"--sweep {name}" for name in done[0].sweeps)])
    lines = [
        f"# The ablations {drawn}",
        "",
        f"{made} {_HOW_JUDGED}",
        "",
        f"The tables behind the figures, one archive: `safesweep reproduce {again} --figure-only "
        f"--data data.zip`, from the same store.",
        "",
        *_table(paper_scorecard(findings)),
    ]
    for paper in dict.fromkeys(entry.ablation.paper for entry in done):
        lines += ["", f"## {TITLES.get(paper, paper)}"]
        for entry in done:
            if entry.ablation.paper == paper:
                own = claims[claims["ablation"] == entry.ablation.id]
                lines += ["", *_section(entry, own, remarks)]
    return "\n".join(lines) + "\n"


_HOW_JUDGED = (
    "Hollow markers are printed numbers; bands and ± are one standard deviation over seeds. "
    "A claim is said of every task, of the mean over tasks, or of a named task, and is judged on "
    "no other. Its p is one-sided; the verdict is the one after Holm's correction at "
    f"{LEVEL:.0%} over the claims of the paper, for and against. What is found on a task is before "
    f"the correction, with the {INTERVAL_LEVEL:.0%} interval whose ends are the bounds that "
    "decide; costs allow for failures that few seeds do not show."
)


def _section(entry: Reproduction, claims: pandas.DataFrame, remarks: Remarks) -> list[str]:
    """A section of the page; `claims` are those of the ablation, as from `claim_verdicts`."""
    ablation = entry.ablation
    varies = f"Varies: {ablation.varies}."
    if entry.scale is not None:
        varies += f" At this scale: {ablation.costs[entry.scale]}."
    rows = []
    for claim in claims.to_dict("records"):
        findings = entry.scorecard[entry.scorecard["claim"] == claim["claim"]]
        rows.append(
            {
                "claim": claim["statement"],
                "said of": claim["quantifier"],
                "verdict": claim["verdict"],
                "p": _p_values(claim),
                "found": "; ".join(_finding(row) for row in findings.to_dict("records")),
                "why": remarks.get((ablation.id, str(claim["claim"])), ""),
            }
        )
    return [
        f"### {ablation.id}: {ablation.title}",
        "",
        varies,
        "",
        f"![{ablation.id}]({ablation.id}-{entry.label}.png)",
        "",
        *_table(pandas.DataFrame(rows)),
    ]


def _p_values(claim: Mapping[Any, Any]) -> str:
    """The p of a claim, and of its contrary where that is the smaller."""
    claimed, contrary = (float(claim[key]) for key in ("p_value", "p_against"))
    if is_missing(claimed):
        return ""
    return f"{claimed:.2g}" if claimed <= contrary else f"{contrary:.2g} against"


def _finding(row: Mapping[Any, Any]) -> str:
    """A task's verdict with its effect and interval: `BallRun supported, 0.12 (0.03 to 0.21)`; an
    end that nothing bounds is left open."""
    task, part = str(row["task"]), str(row["part"] or "")
    name = TASKS[task].key if task in TASKS else task
    text = " ".join(filter(None, [name, part and f"[{part}]", str(row["verdict"])]))
    effect, low, high = (float(row[key]) for key in ("effect", "low", "high"))
    if not is_missing(effect):
        text += f", {effect:.3g}"
    if math.isfinite(low) and math.isfinite(high):
        text += f" ({low:.3g} to {high:.3g})"
    elif math.isfinite(low):
        text += f" ({low:.3g} or more)"
    elif math.isfinite(high):
        text += f" ({high:.3g} or less)"
    remark = str(row["remark"] or "")
    return f"{text}: {remark}" if remark else text


def _table(frame: pandas.DataFrame) -> list[str]:
    """Rows of a Markdown table."""
    lines = ["| " + " | ".join(map(str, frame.columns)) + " |"]
    lines.append("|" + "---|" * len(frame.columns))
    for row in frame.itertuples(index=False, name=None):
        lines.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |")
    return lines
