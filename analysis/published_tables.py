"""The selection rules applied to the papers' own tables, as a page: `python -m
safesweep.analysis.published_tables > docs/published-tables.md`.

A table's methods stand as the configurations of one algorithm, each printed mean as one seed.
LSPC's appendix A.4 marks bold what is safe ("normalized cost smaller than 1"), bold and blue the
safe agent with the highest reward, and "if a safer agent is present within a -0.05 normalized
return, that agent" as well: what `max_reward_safe` and `safest_within` choose.
"""

from collections.abc import Sequence

import pandas

from safesweep.analysis.published import load_marks, load_published, methods_as_candidates
from safesweep.analysis.selection.choice import select
from safesweep.trainables.store.scores import within_limit
from safesweep.trainables.tasks.registry import TASKS

TABLES = (("lspc", "table1"), ("flrp", "table1"), ("r2pac", "table1"))
TITLES = {"lspc": "LSPC, table 1", "flrp": "FLRP, table 1", "r2pac": "R2PAC, table 1"}
OWN = {"lspc": "LSPC-O", "flrp": "FLRP", "r2pac": "R2PAC"}
MARKED = (("flrp", "table1"), ("lspc", "table3"), ("lspc", "table4"), ("lspc", "table5"))


def choices(paper: str, exhibit: str, ambiguous: bool = False) -> pandas.DataFrame:
    """Per task: the safe methods, the best safe one, and a safer one within 0.05 if there is one.

    Returns:
        Columns `task, safe_methods` (list, the best first), `best_safe, reward, cost` (of the best
        safe method; of the one with the lowest cost where none is safe, with `any_safe` false),
        `safer_within` (None where the best is also the safest), `safer_reward, safer_cost`.
    """
    table = methods_as_candidates(paper, exhibit, ambiguous)
    best = select(table).set_index("task")
    safest = select(table, "safest_within").set_index("task")
    rows = []
    for task, group in table.groupby("task", sort=False):
        safe = group[within_limit(group["normalized_cost"])]
        first, second = best.loc[task], safest.loc[task]
        other = bool(first["safe"]) and second["config_id"] != first["config_id"]
        ranked = safe.sort_values(
            ["normalized_reward", "normalized_cost"], ascending=[False, True], kind="stable"
        )
        rows.append(
            {
                "task": task,
                "safe_methods": ranked["config_id"].tolist(),
                "any_safe": bool(first["safe"]),
                "best_safe": first["config_id"],
                "reward": first["normalized_reward"],
                "cost": first["normalized_cost"],
                "safer_within": second["config_id"] if other else None,
                "safer_reward": second["normalized_reward"] if other else float("nan"),
                "safer_cost": second["normalized_cost"] if other else float("nan"),
            }
        )
    return pandas.DataFrame(rows)


def mark_differences(paper: str, exhibit: str) -> pandas.DataFrame:
    """Where a table's bold print and the rule "bold: normalised cost smaller than 1" disagree.

    Returns:
        Columns `task, method, reward, cost, printed` (which of its numbers are bold: none, reward,
        cost or both), `rule` (bold or plain).
    """
    marks = {tuple(row) for row in load_marks(paper, exhibit).itertuples(index=False)}
    table = methods_as_candidates(paper, exhibit, ambiguous=True)
    rows = []
    for entry in table.to_dict("records"):
        bold = [
            metric.removeprefix("normalized_")
            for metric in ("normalized_reward", "normalized_cost")
            if (entry["task"], entry["config_id"], metric) in marks
        ]
        safe = entry["normalized_cost"] < 1
        if len(bold) != (2 if safe else 0):
            rows.append(
                {
                    "task": entry["task"],
                    "method": entry["config_id"],
                    "reward": entry["normalized_reward"],
                    "cost": entry["normalized_cost"],
                    "printed": " and ".join(bold) or "none",
                    "rule": "bold" if safe else "plain",
                }
            )
    return pandas.DataFrame(rows, columns=["task", "method", "reward", "cost", "printed", "rule"])


def statements() -> pandas.DataFrame:
    """What the papers say of these tables, beside what the rule counts.

    Returns:
        Columns `paper, statement, counted, holds`.
    """
    rows = [
        *_safe_everywhere("lspc", "LSPC-O", "LSPC-O adheres to safety on every task"),
        *_safe_everywhere("lspc", "LSPC-S", "LSPC-S, too, is a safe policy"),
        *_safe_everywhere("lspc", "FISOR", "FISOR upholds safety even under strict limits"),
        *_safe_everywhere("flrp", "FLRP", "FLRP learns safe policies"),
        *_safe_everywhere("r2pac", "R2PAC", "cost below 1 on all tasks"),
        *_second_best(),
        *_highest_return(),
    ]
    return pandas.DataFrame(rows, columns=["paper", "statement", "counted", "holds"])


def _safe_everywhere(paper: str, method: str, statement: str) -> list[tuple[str, str, str, bool]]:
    table = methods_as_candidates(paper, "table1")
    own = table[table["config_id"] == method]
    broken = own[own["normalized_cost"] >= 1]
    counted = f"{method}: cost below 1 on {len(own) - len(broken)} of {len(own)} tasks"
    if len(broken):
        cases = zip(broken["task"], broken["normalized_cost"], strict=True)
        counted += ", not on " + ", ".join(f"{_key(task)} ({cost:g})" for task, cost in cases)
    total = table["task"].nunique()
    if len(own) < total:
        absent = sorted(set(table["task"]) - set(own["task"]))
        counted += f"; its numbers are doubtful on {', '.join(map(_key, absent))}"
    return [(paper, statement, counted, broken.empty)]


def _second_best() -> list[tuple[str, str, str, bool]]:
    """FLRP: "violation rates far below the second-best method"."""
    frame = load_published("flrp", "table1")
    averages = frame[(frame["task"] == "average") & (frame["metric"] == "normalized_cost")]
    said = {"safety_gymnasium": 0.40, "bullet": 0.88, "metadrive": 0.38}
    rows = []
    for suite, value in said.items():
        costs = averages[averages["suite"] == suite].set_index("method")["value"]
        others = costs.drop("FLRP").sort_values(kind="stable")
        own = costs["FLRP"]
        rows.append(
            (
                "flrp",
                f"average cost on {suite}: {own:g}, far below the second best, {value:g}",
                f"the lowest of the others is {others.index[0]} with {others.iloc[0]:g}",
                bool(others.iloc[0] == value),
            )
        )
    return rows


def _highest_return() -> list[tuple[str, str, str, bool]]:
    """R2PAC: "the highest reward in 13 of 17 tasks": the car, velocity and Bullet tasks."""
    table = methods_as_candidates("r2pac", "table1")
    named = [task for task in table["task"].unique() if not _key(task).startswith("Point")]
    named = [task for task in named if "Metadrive" not in task and _key(task) != "CarCircle"]
    rows = []
    for without in (None, "CAPS(IQL)"):
        kept = table[table["task"].isin(named) & (table["config_id"] != without)]
        own = int((select(kept)["config_id"] == "R2PAC").sum())
        counted = f"best safe on {own} of {len(named)} (CarCircle's numbers are doubtful)"
        if without:
            counted = f"without {without}: {counted}"
        # CarCircle could add one at most.
        rows.append(("r2pac", "the highest reward in 13 of 17 tasks", counted, own + 1 >= 13))
    return rows


def _key(task: str) -> str:
    return TASKS[task].key if task in TASKS else task


def page() -> str:
    """The page, as Markdown."""
    parts = [
        "# The rules on the papers' own tables",
        "Generated by `python -m safesweep.analysis.published_tables > docs/published-tables.md`. "
        "Methods stand as configurations, each printed mean as one seed. *Safe*: cost at most 1. "
        "*Best safe*: `max_reward_safe`. *Safer within 0.05*: what `safest_within` chooses where "
        "that is another one, LSPC's second mark (appendix A.4). The two together are what LSPC's "
        "rule highlights. Costs of different papers do not compare: each has limits of its own. "
        "Cells that are printed doubtfully are left out; where they would change a choice, a note "
        "says so.",
    ]
    for paper, exhibit in TABLES:
        parts += [f"## {TITLES[paper]}", *_table_section(paper, exhibit)]
    parts += ["## Statements", _markdown(statements().assign(
        holds=lambda frame: ["yes" if holds else "no" for holds in frame["holds"]]
    ))]  # fmt: skip
    parts += [
        "## Bold print",
        "FLRP's table 1 and LSPC's tables 3 to 5 (the numbers of its table 1 with four more "
        "methods) are known with their bold print, in which both papers set safe agents. Printed "
        "otherwise than by cost smaller than 1:",
    ]
    for paper, exhibit in MARKED:
        found = mark_differences(paper, exhibit)
        title = f"{paper.upper()} {exhibit.replace('table', 'table ')}"
        if found.empty:
            parts.append(f"{title}: none.")
        else:
            shown = found.assign(task=[_key(task) for task in found["task"]])
            parts += [f"{title}, {len(found)} methods:", _markdown(shown)]
    return "\n\n".join(parts) + "\n"


def _table_section(paper: str, exhibit: str) -> list[str]:
    found = choices(paper, exhibit)
    wins = found[found["any_safe"]]["best_safe"].value_counts()
    own = OWN[paper]
    marked = int(((found["best_safe"] == own) | (found["safer_within"] == own)).sum())
    summary = ", ".join(f"{method} {count}" for method, count in wins.items())
    lines = [
        f"Best safe method by number of tasks: {summary}. {own} is highlighted on {marked} of "
        f"{len(found)} tasks."
    ]
    unsafe = found[~found["any_safe"]]
    if len(unsafe):
        names = ", ".join(
            f"{_key(task)} (lowest cost: {method}, {cost:g})"
            for task, method, cost in unsafe[["task", "best_safe", "cost"]].itertuples(index=False)
        )
        lines.append(f"No safe method on {names}.")
    doubtful = choices(paper, exhibit, ambiguous=True).set_index("task")
    for row in found.to_dict("records"):
        other = doubtful.loc[row["task"]]
        if other["best_safe"] != row["best_safe"]:
            lines.append(
                f"On {_key(row['task'])} the doubtful cells, taken as printed, make "
                f"{other['best_safe']} ({other['reward']:g}, {other['cost']:g}) the best safe one."
            )
    shown = pandas.DataFrame(
        {
            "task": [_key(task) for task in found["task"]],
            "safe methods, best first": [", ".join(names) or "none" for names in
                                         found["safe_methods"]],
            "best safe": [
                f"{name} ({reward:g}, {cost:g})" if safe else "none"
                for name, reward, cost, safe in found[
                    ["best_safe", "reward", "cost", "any_safe"]
                ].itertuples(index=False)
            ],
            "safer within 0.05": [
                f"{name} ({reward:g}, {cost:g})" if pandas.notna(name) else ""
                for name, reward, cost in found[
                    ["safer_within", "safer_reward", "safer_cost"]
                ].itertuples(index=False)
            ],
        }
    )  # fmt: skip
    return [*lines, _markdown(shown)]


def _markdown(frame: pandas.DataFrame) -> str:
    def line(cells: Sequence[object]) -> str:
        texts = [f"{cell:g}" if isinstance(cell, float) else str(cell) for cell in cells]
        return "| " + " | ".join(texts) + " |"

    rows = [line(list(frame.columns)), line(["---"] * frame.shape[1])]
    return "\n".join([*rows, *(line(row) for row in frame.itertuples(index=False))])


if __name__ == "__main__":
    print(page(), end="")
