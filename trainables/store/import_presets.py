"""Presets of imports: which columns of well-known tables are which of ours.

What a user names takes precedence over all of it.

- `osrl`: `progress.txt` as the logger of OSRL and FSRL writes it, with the settings of the run from
  `config.yaml` beside it, which the same logger writes. Return-conditioned methods (CDT) are
  evaluated at several targets in one row; each becomes a policy with its own cost limit.
- `wandb`: the table of runs as Weights & Biases exports it. Settings and results stand side by side
  there under plain names, unless settings begin with `config.`; then these are the hyperparameters.
  Otherwise they are what is neither Weights & Biases' own nor, by its name, a measurement. A row is
  a run at its end; the last step at which each logged something differs, and is not taken.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from safesweep.search_spaces.validation import InvalidInput
from safesweep.trainables.store.table_files import TableFile

HYPERPARAMETER = "hp_"


@dataclass(frozen=True)
class Preset:
    """What is known of a kind of table.

    Attributes:
        columns: our column -> names it may have there, the likeliest first; case is ignored, as is
            a prefix `config.`.
        beside: constants from what lies beside a file.
        reshape: brings the table into rows of single evaluations.
        hyperparameters: theirs that are hyperparameters, of those that are none of ours.
    """

    columns: Mapping[str, tuple[str, ...]]
    beside: Callable[[Path], dict[str, Any]] | None = None
    reshape: Callable[[TableFile], TableFile] | None = None
    hyperparameters: Callable[[list[str]], list[str]] | None = None

    def mapping(self, names: tuple[str, ...]) -> dict[str, str]:
        """Our columns -> theirs, of those that are there."""
        known: dict[str, str] = {}
        for name in names:
            known.setdefault(_bare(name), name)
        found = {
            ours: known[theirs]
            for ours, candidates in self.columns.items()
            for theirs in reversed(candidates)
            if theirs in known
        }
        if self.hyperparameters is not None:
            left = [name for name in names if name not in found.values()]
            for name in self.hyperparameters(left):
                ours = HYPERPARAMETER + re.sub(r"\W+", "_", _without_config(name))
                if ours in found:
                    raise InvalidInput(f"{ours}: both {found[ours]!r} and {name!r} would be it")
                found[ours] = name
        return found


def _without_config(name: str) -> str:
    return re.sub(r"^config[./]", "", name, flags=re.IGNORECASE)


def _bare(name: str) -> str:
    return _without_config(name).casefold()


_RUN_COLUMNS: dict[str, tuple[str, ...]] = {
    "algorithm": ("algorithm", "algo", "method", "agent", "prefix"),
    "task": ("task", "env", "env_id", "env_name", "environment"),
    "seed": ("seed",),
    "cost_limit": ("cost_limit",),
}
_NORMALIZED: dict[str, tuple[str, ...]] = {
    "normalized_reward": ("normalized_reward", "eval/normalized_reward"),
    "normalized_cost": ("normalized_cost", "eval/normalized_cost"),
}
_EVALUATED: dict[str, tuple[str, ...]] = {
    "reward_return_mean": (
        "reward_return_mean", "eval/reward", "eval/return", "eval/ret", "eval/episode_reward",
        "test/reward",
    ),
    "cost_return_mean": (
        "cost_return_mean", "eval/cost", "eval/cost_return", "eval/episode_cost", "test/cost",
    ),
    "episode_length_mean": ("episode_length_mean", "eval/length", "eval/len", "test/length"),
}  # fmt: skip

# Settings that tell how and where a run was started, not what was learned.
_BOOKKEEPING = {
    "project", "group", "name", "prefix", "suffix", "logdir", "log_dir", "verbose", "device",
    "thread", "threads", "num_workers", "dataset", "entity", "tags", "notes", "eval_episodes",
    "eval_every", "wandb", "output_dir", "save_dir", "run_name", "exp_name",
    "global_step", "epoch",
}  # fmt: skip
_WANDB_OWN = {
    "name", "state", "notes", "user", "tags", "created", "runtime", "sweep", "id", "group",
    "job type", "host", "hostname", "gpu count", "gpu type", "cpu count", "commit", "description",
    "end time", "start time", "updated", "github", "git", "os", "python version", "command",
    "entity", "project",
}  # fmt: skip
_MEASUREMENT = re.compile(
    r"reward(?!_?(scale|weight|shap|norm))|return(?!_?(scale|to))|cost(?!_?(limit|scale|weight|"
    r"budget|thresh|gamma|lr|coef|transform|reverse|prefix))|loss(?!_?(weight|scale|type|coef|fn))"
    r"|score|success|violation|length|runtime|_time$|^time|fps|best_|entropy(?!_?(coef|weight))",
    re.IGNORECASE,
)


def _wandb_hyperparameters(names: list[str]) -> list[str]:
    settings = [name for name in names if _without_config(name) != name]
    if settings:
        return [name for name in settings if _bare(name) not in _BOOKKEEPING]
    return [
        name
        for name in names
        if not name.startswith("_")
        and "/" not in name
        and name.casefold() not in _WANDB_OWN | _BOOKKEEPING
        and not name.startswith("column ")
        and not _MEASUREMENT.search(name)
    ]


def _runs_not_a_chart(table: TableFile) -> TableFile:
    if any(name.endswith(("__MIN", "__MAX")) for name in table.header):
        raise InvalidInput(
            f"file: {table.name!r} is the export of a chart; export the table of runs instead"
        )
    return table


class _Settings(yaml.SafeLoader):
    """YAML in which objects of Python are plain: tuples are lists, others are left out."""


_Settings.add_multi_constructor(
    "tag:yaml.org,2002:python/",
    lambda loader, suffix, node: (
        loader.construct_sequence(node) if isinstance(node, yaml.SequenceNode) else None
    ),
)


def _osrl_settings(path: Path) -> dict[str, Any]:
    """Task, seed, limit, method and hyperparameters of a run, from its `config.yaml`.

    Raises:
        InvalidInput: it is there, and is no such file.
    """
    place = path.with_name("config.yaml")
    if path.name != "progress.txt" or not place.is_file():
        return {}
    try:
        content = yaml.load(place.read_text(encoding="utf-8"), Loader=_Settings)
    except (OSError, ValueError, yaml.YAMLError) as problem:
        raise InvalidInput(f"file: {str(place)!r} cannot be read: {problem}") from None
    if not isinstance(content, dict):
        raise InvalidInput(f"file: {str(place)!r} does not hold settings")
    constants = {
        ours: content[name]
        for ours, names in _RUN_COLUMNS.items()
        for name in reversed(names)
        if content.get(name) is not None
    }
    if "algorithm" in constants:
        constants["algorithm"] = str(constants["algorithm"]).lower()
    for name, value in content.items():
        known = any(name in names for names in _RUN_COLUMNS.values())
        if not known and name not in _BOOKKEEPING and value is not None:
            plain = value if isinstance(value, bool | int | float | str) else str(value)
            constants[HYPERPARAMETER + re.sub(r"\W+", "_", str(name))] = plain
    return constants


_TARGET = re.compile(r"(cost|ret|length)/(c_(\d+)_r_-?\d+)")
_TARGET_COLUMNS = {"ret": "eval/reward", "cost": "eval/cost", "length": "eval/length"}


def _osrl_targets(table: TableFile) -> TableFile:
    """A row for each target of a return-conditioned method, which stand in one row as `ret/c_10_r_
    300`, `cost/c_10_r_300` and so on."""
    matches = {place: _TARGET.fullmatch(name) for place, name in enumerate(table.header)}
    targets: dict[str, dict[str, int]] = {}
    for place, match in matches.items():
        if match:
            targets.setdefault(match[2], {"limit": int(match[3])})[match[1]] = place
    if not targets:
        return table
    others = [place for place, match in matches.items() if not match]
    # The last cell of a file may be cut: whatever stands last there stands last here, too.
    last = matches[len(matches) - 1]
    tail = [] if last else others[-1:]
    kinds = sorted(_TARGET_COLUMNS, key=lambda kind: last is not None and kind == last[1])
    front = others[: len(others) - len(tail)]
    header = [
        *(table.header[place] for place in front), "policy", "cost_limit",
        *(_TARGET_COLUMNS[kind] for kind in kinds), *(table.header[place] for place in tail),
    ]  # fmt: skip
    rows = []
    for row in table.rows:
        for policy, places in targets.items():
            cells = (
                *(row.cells[place] for place in front), policy, str(places["limit"]),
                *(row.cells[places[kind]] if kind in places else "" for kind in kinds),
                *(row.cells[place] for place in tail),
            )  # fmt: skip
            rows.append(replace(row, cells=cells))
    return replace(table, header=tuple(header), rows=tuple(rows))


PRESETS: dict[str, Preset] = {
    "osrl": Preset(
        {
            **_EVALUATED,
            "step": ("steps", "update/gradient_steps", "update/env_step"),
            "policy": ("policy",),
            "cost_limit": ("cost_limit",),
        },
        beside=_osrl_settings,
        reshape=_osrl_targets,
    ),
    "wandb": Preset(
        {
            **_RUN_COLUMNS,
            **_NORMALIZED,
            **_EVALUATED,
            "status": ("state",),
        },
        reshape=_runs_not_a_chart,
        hyperparameters=_wandb_hyperparameters,
    ),
}
