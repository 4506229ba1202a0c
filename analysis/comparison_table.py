"""The field's table of a comparison: a row a task, of each method its normalized reward and cost,
averages of each suite; bold where a method is safe, blue where it is the best safe one, grey where
it is unsafe (as DSRL and the papers after it print theirs)."""

import math
from collections.abc import Callable, Sequence

import pandas

from safesweep.analysis.statistics import rows_of_choice
from safesweep.search_spaces.validation import InvalidInput, is_missing
from safesweep.trainables.store.scores import within_limit
from safesweep.trainables.tasks.registry import TASKS

AVERAGE = "average"
NAMES = {
    "bc": "BC", "cpq": "CPQ", "bcql": "BCQ-Lag", "bearl": "BEAR-Lag", "coptidice": "COptiDICE",
    "cdt": "CDT", "caps": "CAPS", "fisor": "FISOR", "lspc_s": "LSPC-S", "lspc_o": "LSPC-O",
    "cvae": "CVAE", "r2pac": "R2PAC", "flrp": "FLRP", "flp": "FLP", "safefql": "SafeFQL",
    "iql": "IQL", "ifql": "IFQL", "rebrac": "ReBRAC", "fql": "FQL",
}  # fmt: skip
"""What papers call the policies, in the order of the columns; others follow under own names."""
SUITE_TITLES = {
    "bullet": "Bullet", "safety_gymnasium": "Safety-Gymnasium", "metadrive": "MetaDrive",
    "boat": "boats", "ogbench": "OGBench",
}  # fmt: skip
Mark = Callable[[str, bool, bool], str]


def comparison(evaluations: pandas.DataFrame, chosen: pandas.DataFrame) -> pandas.DataFrame:
    """The cells of the table: what a rule chose, method by method.

    Args:
        evaluations: what `select` was given.
        chosen: what it returned; rows without a choice are left out.

    Returns:
        `suite, task, method, reward, cost, reward_deviation, cost_deviation, seeds, safe,
        best_safe`: means and standard deviations over seeds. A row `average` of each suite with
        more than one task has the means over tasks, of methods that have them all. `safe`: a cost
        of at most 1; `best_safe`: the highest reward of the safe ones of a row.

    Raises:
        InvalidInput: nothing was chosen.
    """
    rows = rows_of_choice(evaluations, chosen)
    if rows.empty:
        raise InvalidInput("table: nothing was chosen that could be compared")
    several = rows.groupby("algorithm")["policy"].nunique() if "policy" in rows else None
    named = [
        _method(row, several is not None and several[row["algorithm"]] > 1)
        for row in rows.to_dict("records")
    ]
    keyed = rows.assign(method=named, suite=[_suite(task) for task in rows["task"]])
    scores = keyed.groupby(["suite", "task", "method"], sort=False)[
        ["normalized_reward", "normalized_cost"]
    ]
    means, deviations = scores.mean(), scores.std()
    table = pandas.DataFrame(
        {
            "reward": means["normalized_reward"],
            "cost": means["normalized_cost"],
            "reward_deviation": deviations["normalized_reward"],
            "cost_deviation": deviations["normalized_cost"],
            "seeds": scores.size(),
        }
    ).reset_index()
    table = pandas.concat([table, *_averages(table)], ignore_index=True)
    table["safe"] = within_limit(table["cost"].to_numpy())
    best = table[table["safe"]].groupby(["suite", "task"])["reward"].max()
    table["best_safe"] = [
        bool(row["safe"]) and row["reward"] == best[(row["suite"], row["task"])]
        for row in table.to_dict("records")
    ]
    return _in_order(table)


def _method(row: dict[object, object], several: bool) -> str:
    """The name of a method's column: that of its policy where it has several."""
    policy = row.get("policy")
    if is_missing(policy):
        return NAMES.get(str(row["algorithm"]), str(row["algorithm"]))
    own, _, limit = str(policy).partition("@")
    own = own if several or own in NAMES else str(row["algorithm"])
    return NAMES.get(own, own) + (f" @{limit}" if limit else "")


def _suite(task: str) -> str:
    return TASKS[task].suite if task in TASKS else ""


def _averages(table: pandas.DataFrame) -> list[pandas.DataFrame]:
    found = []
    for suite, group in table.groupby("suite", sort=False):
        tasks = group["task"].nunique()
        if tasks > 1:
            methods = group.groupby("method", sort=False)
            whole = methods["task"].nunique() == tasks
            means = methods[["reward", "cost"]].mean()[whole]
            found.append(means.reset_index().assign(suite=suite, task=AVERAGE))
    return found


def _in_order(table: pandas.DataFrame) -> pandas.DataFrame:
    """Suites and tasks as they are registered, averages last; methods as papers list them."""
    tasks, suites = list(TASKS), list(SUITE_TITLES)

    def place(text: str, known: Sequence[str]) -> tuple[int, str]:
        return (known.index(text) if text in known else len(known), text)

    columns = list(NAMES.values())
    keys = [
        (
            place(row["suite"], suites), row["task"] == AVERAGE, place(row["task"], tasks),
            place(row["method"].partition(" @")[0], columns), _limit(row["method"]),
        )
        for row in table.to_dict("records")
    ]  # fmt: skip
    order = sorted(range(len(keys)), key=keys.__getitem__)
    return table.iloc[order].reset_index(drop=True)


def _limit(method: str) -> float:
    _, _, limit = method.partition(" @")
    return float(limit) if limit else -math.inf


def as_latex(table: pandas.DataFrame, deviations: bool = False) -> str:
    """The table in LaTeX; it needs the packages booktabs and xcolor."""
    methods = list(dict.fromkeys(table["method"]))

    def mark(text: str, safe: bool, best: bool) -> str:
        text = text.replace("±", r"$\pm$").replace("-", "$-$")
        if not safe:
            return rf"\textcolor{{gray}}{{{text}}}"
        bold = rf"\textbf{{{text}}}"
        return rf"\textcolor{{blue}}{{{bold}}}" if best else bold

    titles = [rf"\multicolumn{{2}}{{c}}{{{_latex(method)}}}" for method in methods]
    scores = [r"reward $\uparrow$ & cost $\downarrow$"] * len(methods)
    lines = [
        r"% \usepackage{booktabs, xcolor}. Bold: safe (normalized cost at most 1);",
        "% blue: the safe one of the highest reward; grey: unsafe.",
        rf"\begin{{tabular}}{{l{'rr' * len(methods)}}}",
        r"\toprule",
        " & ".join(["", *titles]) + r" \\",
        " & ".join(["Task", *scores]) + r" \\",
    ]
    for suite, group in table.groupby("suite", sort=False):
        lines.append(r"\midrule")
        for task, row in group.groupby("task", sort=False):
            cells = _cells(row, methods, mark, deviations, "--")
            lines.append(" & ".join([_latex(_title(str(task), str(suite))), *cells]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def as_markdown(table: pandas.DataFrame, deviations: bool = False) -> str:
    """The table in Markdown, with colours in HTML where they are shown."""
    methods = list(dict.fromkeys(table["method"]))

    def mark(text: str, safe: bool, best: bool) -> str:
        if not safe:
            return f'<span style="color:gray">{text}</span>'
        return f'<span style="color:blue">**{text}**</span>' if best else f"**{text}**"

    heads = [f"{_plain(method)} {score}" for method in methods for score in ("reward", "cost")]
    lines = [_row(["task", *heads]), _row(["---", *["---:"] * len(heads)])]
    for (suite, task), row in table.groupby(["suite", "task"], sort=False):
        cells = _cells(row, methods, mark, deviations, "")
        lines.append(_row([_plain(_title(str(task), str(suite))), *cells]))
    legend = (
        "Bold: safe (normalized cost at most 1); blue: the safe one of the highest reward; grey: "
        "unsafe."
    )
    return "\n".join([*lines, "", legend])


def _cells(
    row: pandas.DataFrame, methods: Sequence[str], mark: Mark, deviations: bool, nothing: str
) -> list[str]:
    """Reward and cost of each method in a row of the table."""
    found = {entry["method"]: entry for entry in row.to_dict("records")}
    cells = []
    for method in methods:
        entry = found.get(method)
        for score in ("reward", "cost"):
            if entry is None:
                cells.append(nothing)
                continue
            text = f"{entry[score]:.2f}"
            deviation = entry[f"{score}_deviation"]
            if deviations and not is_missing(deviation):
                text += f" ± {deviation:.2f}"
            cells.append(mark(text, entry["safe"], entry["best_safe"]))
    return cells


def _title(task: str, suite: str) -> str:
    if task == AVERAGE:
        return f"Average, {SUITE_TITLES.get(suite, suite)}" if suite else "Average"
    return TASKS[task].key if task in TASKS else task


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _plain(text: str) -> str:
    """A name that no table takes for its own."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("_", "\\_")


def _latex(text: str) -> str:
    named = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    escaped = {sign: f"\\{sign}" for sign in "&%$#_{}"}
    return "".join(named.get(sign, escaped.get(sign, sign)) for sign in text)
