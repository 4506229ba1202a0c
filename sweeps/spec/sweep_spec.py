"""What a sweep file holds: its fields, what each means and what it allows.

What one field allows is declared. What depends on others is checked where the last of them stands,
with those before it that are valid, so that one reading finds everything that is wrong.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from safesweep.search_spaces.space import SearchSpace, Value
from safesweep.search_spaces.validation import (
    InvalidInput,
    Problems,
    did_you_mean,
    key_problems,
    listed,
    quotes_hint,
    require_number,
    shown,
)
from safesweep.sweeps.spec import yaml_file
from safesweep.sweeps.spec.problems import invalid_input
from safesweep.sweeps.spec.spaces import MethodSpace
from safesweep.trainables.store.scores import ConstraintName, ObjectiveName

SearchMethod = Literal["grid", "random", "tpe", "nsga2", "cmaes", "gp"]
SEARCH_METHODS: tuple[str, ...] = get_args(SearchMethod)
ADAPTIVE_METHODS = ("tpe", "nsga2", "cmaes", "gp")
DATASET_SOURCES = ("auto", "fetch", "collect")
# Gradient steps of a run that repay compiling, which takes one to some minutes.
AUTO_COMPILE_STEPS = 20_000
MOST_PARALLEL = 10_000
MOST_EPISODES = 10_000
MOST_SEEDS = 1_000
"""That a number may stand for; a list may have more."""
MOST_STEPS = 10**9
MOST_EVALUATIONS = 100_000
"""Of a run: each is rows, and a checkpoint that is written anew."""
FEWEST_BUDGET_RUNS = 12
"""With fewer, a budget could not even begin."""
T = TypeVar("T")


def _whole_number(value: object) -> int:
    """YAML's 1e4 is a whole number; true and '3' are none."""
    if isinstance(value, float) and math.isfinite(value) and value == int(value):
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise PydanticCustomError("whole_number", "not a whole number")
    return value


# Annotations of fields: a whole number, a finite number, and a section that may be null.
WHOLE = BeforeValidator(_whole_number)
FINITE = Field(strict=True, allow_inf_nan=False)
Seed = Annotated[int, Field(ge=0, le=2**31 - 1), WHOLE]
Limits = dict[ConstraintName, Annotated[float, FINITE, Field(ge=0)]]
# Stands for a default that depends on other fields, until the sweep is read whole.
UNLESS_GIVEN: Any = None
# This very object, so that seeds that a file gives are told from none.
DEFAULT_SEEDS = (0,)


def _or_empty(wanted: Any) -> BeforeValidator:
    return BeforeValidator(
        lambda value: {} if value is None else value, json_schema_input_type=wanted | None
    )


class Section(BaseModel):
    """A part of a sweep file: it knows its keys and does not change."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class SearchOptions(Section):
    """How configurations are chosen.

    `parallel` bounds how many suggestions of an adaptive search are open at a time: suggestion i
    sees the results of suggestions up to i - `parallel`, neither more nor fewer, so that the
    sequence depends on no timing. It is None for grid and random, whose plan is known in advance.
    `points` come first, as the file names them: see `SweepSpec.points_for`.
    """

    method: SearchMethod = "grid"
    """grid takes every point of the space, the others num_configs points."""
    num_configs: Annotated[int, Field(ge=1, le=10**6), WHOLE] | None = None
    """How many configurations to try: for all but grid."""
    seed: Seed = 0
    """What the search draws from."""
    parallel: Annotated[int, Field(ge=1, le=MOST_PARALLEL), WHOLE] | None = None
    """Suggestions of tpe, nsga2, cmaes and gp that are open at a time (default: 4, or
    configs_per_trial where that is more)."""
    points: tuple[dict[str, Any], ...] | None = None
    """Configurations to try first, each as hyperparameters and their values."""
    warm_start: Annotated[bool, Field(strict=True)] = False
    """Tell tpe, nsga2, cmaes, gp or a budget what the store already holds of the method on the
    task; where it holds nothing, the best on other tasks come first."""


class SeedRange(Section):
    """Seeds by need: every configuration has the first `least`, and one that may still be chosen
    gets more, up to `most`."""

    least: Annotated[int, Field(ge=1, le=MOST_SEEDS), WHOLE] = Field(alias="from")
    """Seeds of every configuration."""
    most: Annotated[int, Field(ge=1, le=MOST_SEEDS), WHOLE] = Field(alias="to")
    """Seeds of one that may still be chosen."""


class BudgetOptions(Section):
    """What a method may cost on a task: the configurations, their seeds and how many confirm the
    choice follow from the results."""

    runs: Annotated[int, Field(ge=1, le=10**6), WHOLE] | None = None
    """Runs of each method on each task."""
    gradient_steps: Annotated[int, Field(ge=1, le=10**15), WHOLE] | None = None
    """Gradient steps of all of them, instead."""
    confidence: Annotated[float, FINITE, Field(ge=0.5, le=0.999)] = 0.9
    """Level of the bound that the choice is to keep."""


class EvaluateOptions(Section):
    """When policies are evaluated, and for how long."""

    every: Annotated[int, Field(ge=1), WHOLE] = UNLESS_GIVEN
    """Gradient steps between evaluations (default: the last step only)."""
    episodes: (
        Annotated[int, Field(ge=1, le=MOST_EPISODES), WHOLE]
        | Literal["auto"]
        | Annotated[dict[Any, Any], Field(description="{task: number}")]
    ) = 20
    """Episodes of an evaluation: a number, {task: number}, or auto: by how much they vary."""


class ObjectiveOptions(Section):
    """What the search goes after."""

    maximize: ObjectiveName = "normalized_reward"
    """The score to maximise."""
    subject_to: Annotated[Limits, _or_empty(Limits)] = {"normalized_cost": 1.0}
    """Costs and the limits that they have to keep."""


class ResourceOptions(Section):
    """What a trial takes of the cluster."""

    cpu: Annotated[float, FINITE, Field(ge=0.01, le=1024)] = 1.0
    """CPUs."""
    gpu: Annotated[float, FINITE, Field(ge=0, le=1)] = 0.25
    """The share of a GPU, where there is one."""


class MethodOptions(Section):
    """What one method of a sweep has of its own."""

    fixed: Annotated[dict[str, Any], _or_empty(dict[str, Any])] = {}
    """Hyperparameters that its runs share, beside those of all methods or instead of them."""
    space: dict[str, Any] | None = None
    """Its hyperparameters that vary, instead of the space of all methods."""


class EarlyStoppingOptions(Section):
    """How configurations are given up: successive halving at the rungs `min_steps`, `min_steps` *
    `reduction`, and so on, after each of which one configuration in `reduction` goes on."""

    method: Literal["halving"] = "halving"
    """Successive halving."""
    reduction: Annotated[int, Field(ge=2, le=1000), WHOLE] = 3
    """Of so many configurations one goes on after a rung."""
    min_steps: Annotated[int, Field(ge=1), WHOLE] = UNLESS_GIVEN
    """Gradient steps before the first rung, a multiple of evaluate.every (default: the first
    evaluation of a trained policy)."""

    def steps(self, steps: int) -> list[int]:
        """Where there may be a rung, for runs of so many gradient steps."""
        found, step = [], self.min_steps
        while step < steps:
            found.append(step)
            step *= self.reduction
        return found


class SweepSpec(Section, validate_default=True):
    """One sweep, fully checked. Build it with `from_mapping`, `from_yaml` or `load`."""

    name: str = Field(
        strict=True,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$",
        description="1 to 100 letters, digits, '.', '_' or '-', and start with a letter or a digit",
    )
    plugins: tuple[str, ...] = ()
    """Modules and files that the sweep needs (`--plugin`), loaded when it is read."""
    algorithms: tuple[str, ...] = Field(alias="algorithm")
    """A method, or a list of them (`safesweep algorithms`)."""
    tasks: tuple[str, ...]
    """A task, or a list of them (`safesweep tasks`)."""
    dataset: str | dict[str, str] = "auto"
    """auto (cached, else fetched, else collected), fetch, collect, an HDF5 file or a Minari
    dataset; or {task: one of these}."""
    budget: BudgetOptions | None = None
    """What each method may cost on each task; it decides on configurations and seeds."""
    given_seeds: Annotated[
        Annotated[tuple[Seed, ...], Field(min_length=1), Tag("list")]
        | Annotated[SeedRange, Field(description="{from: number, to: number}"), Tag("range")],
        Discriminator(lambda seeds: "range" if isinstance(seeds, SeedRange) else "list"),
    ] = Field(default=DEFAULT_SEEDS, alias="seeds")
    """A run is trained from each (default: 0); a number stands for as many: 5 for 0 to 4.
    {from: 2, to: 16} gives a configuration more than 2 only while it may still be chosen."""
    steps: Annotated[int, Field(ge=1, le=MOST_STEPS), WHOLE]
    """Gradient steps of a run."""
    population: Annotated[int, Field(ge=1, le=4096), WHOLE] | Literal["auto"] = Field(
        default=1, alias="configs_per_trial"
    )
    """Configurations that share one population; auto: as many as train fastest."""
    search: Annotated[SearchOptions, _or_empty(SearchOptions)] = SearchOptions()
    """How configurations are chosen."""
    settings: Literal["paper", "public"] | None = None
    """What stands where neither fixed nor space says otherwise, instead of the methods' defaults:
    what a method's paper prints for the task, or its authors' code has."""
    fixed: Annotated[dict[str, Any], _or_empty(dict[str, Any])] = {}
    """Hyperparameters that all runs share, and their values."""
    methods: Annotated[dict[str, MethodOptions], _or_empty(dict[str, MethodOptions])] = {}
    """Of several methods: {method: {fixed, space}}, what each has of its own."""
    space: dict[str, Any] | None = None
    """Hyperparameters that vary: a list of choices, or {low, high, log, step} (default: the space
    that is registered for the method)."""
    evaluate: Annotated[EvaluateOptions, _or_empty(EvaluateOptions)] = EvaluateOptions()
    """When policies are evaluated, and for how long."""
    objective: Annotated[ObjectiveOptions, _or_empty(ObjectiveOptions)] = ObjectiveOptions()
    """What the search goes after."""
    cost_limit: Annotated[float, FINITE, Field(ge=0)] | None = None
    """The cost of an episode that costs are normalised by (default: the task's own)."""
    resources: Annotated[ResourceOptions, _or_empty(ResourceOptions)] = ResourceOptions()
    """What a trial takes of the cluster."""
    early_stopping: EarlyStoppingOptions | None = None
    """Gives configurations up before their last step."""
    compile: Annotated[bool, Field(strict=True)] | Literal["auto"] = False
    """Compile gradient steps; auto: of long runs, which repay it."""
    on_end: (
        Annotated[
            str,
            Field(
                strict=True,
                min_length=1,
                description="a command, or the http or https address of a webhook",
            ),
        ]
        | None
    ) = None
    """When the sweep has ended, however: a command to run, or a webhook to call (--on-end)."""

    @field_validator("plugins", mode="before", json_schema_input_type=str | list[str] | None)
    @classmethod
    def _loaded_plugins(cls, value: object) -> tuple[str, ...]:
        """Those loaded already are recorded, too: what the sweep uses may come from them."""
        from safesweep.search_spaces.plugins import plugin_sources

        _load_plugins(value)
        return tuple(dict.fromkeys(source.name for source in plugin_sources()))

    @field_validator("algorithms", mode="before", json_schema_input_type=str | list[str])
    @classmethod
    def _known_algorithms(cls, value: object) -> tuple[str, ...]:
        from safesweep.trainables.methods.configs import config_class_of

        def known(name: str) -> str:
            config_class_of(name)
            return name

        return _each("algorithm", value, known)

    @field_validator("tasks", mode="before", json_schema_input_type=str | list[str])
    @classmethod
    def _known_tasks(cls, value: object) -> tuple[str, ...]:
        from safesweep.trainables.tasks.registry import get_task

        return _each("tasks", value, lambda name: get_task(name).name)

    @field_validator("dataset", mode="before", json_schema_input_type=str | dict[str, str])
    @classmethod
    def _a_source_for_every_task(cls, value: object, info: ValidationInfo) -> str | dict[str, str]:
        tasks = info.data.get("tasks")
        if isinstance(value, Mapping):
            places: set[str] = set()

            def own_source(field: str, value: object) -> str:
                source = _dataset_source(field, value)
                if source in places:
                    raise InvalidInput(f"{field}: {shown(source)} cannot serve two tasks")
                places.update({source} - set(DATASET_SOURCES))
                return source

            needed = f"it must be one of {', '.join(DATASET_SOURCES)}, or an existing file"
            return _by_task("dataset", value, tasks, own_source, needed)
        source = _dataset_source("dataset", value)
        if tasks and len(tasks) > 1 and source not in DATASET_SOURCES:
            raise InvalidInput(
                f"dataset: one source ({shown(source)}) cannot serve {len(tasks)} tasks; name each "
                f"one's: dataset: {{{tasks[0]}: ..., {tasks[1]}: ...}}"
            )
        return source

    @field_validator("budget")
    @classmethod
    def _runs_or_steps(cls, budget: BudgetOptions | None) -> BudgetOptions | None:
        if budget is not None and (budget.runs is None) == (budget.gradient_steps is None):
            raise InvalidInput("budget: must hold either runs or gradient_steps")
        return budget

    @field_validator("given_seeds", mode="before")
    @classmethod
    def _so_many_seeds(cls, seeds: Any, info: ValidationInfo) -> Any:
        budget = info.data.get("budget")
        if seeds is DEFAULT_SEEDS:
            return seeds
        if budget is not None:
            raise InvalidInput("seeds: a budget decides on them; leave them out, or the budget")
        if isinstance(seeds, Mapping):
            return _seed_range(seeds)
        if isinstance(seeds, bool) or not isinstance(seeds, int):
            return seeds
        if not 1 <= seeds <= MOST_SEEDS:
            raise InvalidInput(
                f"seeds: {seeds} is not allowed; it must be a list, or how many from 0 on, "
                f"1 to {MOST_SEEDS}"
            )
        return list(range(seeds))

    @field_validator("given_seeds")
    @classmethod
    def _distinct_seeds(cls, seeds: tuple[int, ...] | SeedRange) -> tuple[int, ...] | SeedRange:
        return seeds if isinstance(seeds, SeedRange) else _distinct("seeds", seeds)

    @field_validator("search")
    @classmethod
    def _what_the_method_takes(cls, search: SearchOptions, info: ValidationInfo) -> SearchOptions:
        problems = Problems()
        method, points = search.method, search.points or ()
        if "budget" not in info.data:
            return search  # The budget is refused, and would decide on what is allowed here.
        if info.data["budget"] is not None:
            return _search_of_budget(search, info.data["budget"], info.data.get("steps"))
        adaptive = ", ".join(ADAPTIVE_METHODS)
        if search.warm_start and method not in ADAPTIVE_METHODS:
            problems.add(
                f"search.warm_start: true is not allowed with {method}, which learns nothing; "
                f"only {adaptive} and a budget have this key"
            )
        if method == "grid":
            for key, value in (("num_configs", search.num_configs), ("points", points)):
                if value:
                    problems.add(f"search.{key}: a grid has no such key; it runs every point")
        elif search.num_configs is None:
            problems.add(f"search.num_configs: is missing; {method} needs it")
        elif len(points) > search.num_configs:
            problems.add(
                f"search.points: {len(points)} points are not allowed; num_configs is "
                f"{search.num_configs}"
            )
        parallel = search.parallel
        if method in ADAPTIVE_METHODS:
            population = info.data.get("population", 1)
            lowest = 1 if population == "auto" else population
            parallel = max(4, lowest) if parallel is None else parallel
            with problems.collected():
                require_number("search.parallel", parallel, lowest, MOST_PARALLEL, integer=True)
        elif parallel is not None:
            problems.add(f"search.parallel: only {adaptive} have this key, not {method}")
        problems.check()
        return search.model_copy(update={"parallel": parallel, "points": points or None})

    @field_validator("settings")
    @classmethod
    def _one_for_all_tasks(cls, settings: str | None, info: ValidationInfo) -> str | None:
        problems = Problems()
        for algorithm in info.data.get("algorithms", ()):
            with problems.collected():
                printed_for_tasks(algorithm, info.data.get("tasks", ()), settings)
        problems.check()
        return settings

    @field_validator("fixed")
    @classmethod
    def _fixed_in_every_method(cls, fixed: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        problems = Problems()
        for algorithm in info.data.get("algorithms", ()):
            with problems.collected():
                MethodSpace(algorithm, fixed).check_fixed()
        problems.check()
        return fixed

    @field_validator("methods")
    @classmethod
    def _own_settings_of_methods_of_the_sweep(
        cls, methods: dict[str, MethodOptions], info: ValidationInfo
    ) -> dict[str, MethodOptions]:
        problems, algorithms = Problems(), info.data.get("algorithms")
        for algorithm, own in methods.items():
            if algorithms is None:
                break
            if algorithm not in algorithms:
                problems.add(
                    f"methods.{algorithm}: is not a method of the sweep, which has "
                    f"{listed(algorithms)}"
                )
                continue
            with problems.collected(f"methods.{algorithm}."):
                MethodSpace(algorithm, own.fixed).check_fixed()
        problems.check()
        return methods

    @field_validator("space")
    @classmethod
    def _searchable_in_every_method(
        cls, space: dict[str, Any] | None, info: ValidationInfo
    ) -> dict[str, Any] | None:
        problems, valid = Problems(), info.data
        if "methods" not in valid:
            return space
        for algorithm in valid.get("algorithms", ()):
            own = valid["methods"].get(algorithm, MethodOptions())
            printed = printed_for_tasks(algorithm, valid.get("tasks", ()), valid.get("settings"))
            method = _method_space(algorithm, valid.get("fixed", {}), own, space, printed)
            with problems.collected("" if own.space is None else f"methods.{algorithm}."):
                if method.space and {"fixed", "search", "budget"} <= set(valid):
                    method.check_search(valid["search"].method, valid["search"].points or ())
        problems.check()
        return space

    @field_validator("evaluate")
    @classmethod
    def _within_the_run(cls, evaluate: EvaluateOptions, info: ValidationInfo) -> EvaluateOptions:
        problems, steps, tasks = Problems(), info.data.get("steps"), info.data.get("tasks")
        every, episodes = evaluate.every, evaluate.episodes
        if steps is not None:
            every = steps if every is UNLESS_GIVEN else every
            with problems.collected():
                least = math.ceil(steps / MOST_EVALUATIONS)
                require_number("evaluate.every", every, least, steps, integer=True)
        if isinstance(episodes, dict):
            where, needed = "evaluate.episodes", "each task needs a number"
            with problems.collected():
                episodes = _by_task(where, episodes, tasks, _number_of_episodes, needed)
        problems.check()
        return evaluate.model_copy(update={"every": every, "episodes": episodes})

    @field_validator("early_stopping")
    @classmethod
    def _rungs_after_a_policy_is_trained(
        cls, options: EarlyStoppingOptions | None, info: ValidationInfo
    ) -> EarlyStoppingOptions | None:
        valid = info.data
        if options is not None and valid.get("budget") is not None:
            raise InvalidInput("early_stopping: a budget's runs are never stopped; leave it out")
        needed = {"algorithms", "tasks", "steps", "fixed", "methods", "space", "evaluate"}
        if options is None or not needed <= set(valid):
            return options
        # A rung is an evaluation of a policy that has been trained.
        steps, every = valid["steps"], valid["evaluate"].every
        prepared = max(
            _method_space(
                algorithm,
                valid["fixed"],
                valid["methods"].get(algorithm, MethodOptions()),
                valid["space"],
                printed_for_tasks(algorithm, valid["tasks"], valid.get("settings")),
            ).steps_without_policy(valid["tasks"][0], steps)
            for algorithm in valid["algorithms"]
        )
        min_steps = options.min_steps
        if min_steps is UNLESS_GIVEN:
            min_steps = (prepared // every + 1) * every
        if min_steps % every or not prepared < min_steps < steps:
            after = f" above {prepared}, where the policy's training begins," if prepared else ""
            raise InvalidInput(
                f"early_stopping.min_steps: {min_steps} is not allowed; it must be a multiple of "
                f"evaluate.every ({every}){after} and below steps ({steps})"
            )
        return options.model_copy(update={"min_steps": min_steps})

    @classmethod
    def from_mapping(cls, content: Mapping[str, Any]) -> Self:
        """Check a sweep file's content and fill in defaults.

        Raises:
            InvalidInput: everything that is wrong, each with its key, its value and what is
                allowed.
        """
        if isinstance(content, Mapping):
            # First and alone: without one of them, names that come from it would be problems, too.
            _load_plugins(content.get("plugins"))
        try:
            return cls.model_validate(dict(content) if isinstance(content, Mapping) else content)
        except ValidationError as error:
            raise invalid_input(error, content, cls) from None

    @classmethod
    def from_yaml(
        cls, text: str, overrides: Iterable[str] = (), origin: str = "sweep file"
    ) -> Self:
        """Parse YAML, apply `key=value` overrides (dotted keys), and check the result.

        Raises:
            InvalidInput: not YAML, not a mapping, a bad override, or bad content.
        """
        return cls.from_mapping(yaml_file.parse(text, overrides, origin))

    @classmethod
    def load(cls, source: str | Path, overrides: Iterable[str] = ()) -> Self:
        """Read a sweep file from a path, or one that ships by its name.

        Raises:
            InvalidInput: no such file, or bad content.
        """
        return cls.from_mapping(yaml_file.read(source, overrides))

    def to_mapping(self) -> dict[str, Any]:
        """The complete sweep file, defaults included; `from_mapping` reads it back."""
        content = self.model_dump(mode="json", by_alias=True)
        search = {key: value for key, value in content["search"].items() if value is not None}
        if not self.search.warm_start:
            del search["warm_start"]
        optional = ("settings", "space", "early_stopping", "budget", "on_end")
        unsaid = [key for key in optional if content[key] is None]
        if self.budget is not None:
            unsaid.append("seeds")
            content["budget"] = {
                key: value for key, value in content["budget"].items() if value is not None
            }
        unsaid += [key for key in ("plugins", "methods") if not content[key]]
        for own in content["methods"].values():
            if own["space"] is None:
                del own["space"]
        return {key: content[key] for key in content if key not in unsaid} | {"search": search}

    def to_yaml(self) -> str:
        """`to_mapping` as YAML text."""
        return _as_yaml(self.to_mapping())

    def to_recorded_yaml(self) -> str:
        """What a store keeps of it: all but `on_end`, which is of no run and may hold a secret."""
        content = self.to_mapping()
        content.pop("on_end", None)
        return _as_yaml(content)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that every configuration is trained from, whatever comes of it."""
        given = self.given_seeds
        return tuple(range(given.least)) if isinstance(given, SeedRange) else given

    @property
    def most_seeds(self) -> int | None:
        """Seeds of a configuration that may be chosen to the end; None: the same as of others."""
        return self.given_seeds.most if isinstance(self.given_seeds, SeedRange) else None

    @property
    def budget_runs(self) -> int | None:
        """Runs that a method may take on a task; None where there is no budget."""
        if self.budget is None:
            return None
        if self.budget.runs is not None:
            return self.budget.runs
        assert self.budget.gradient_steps is not None
        return self.budget.gradient_steps // self.steps

    @property
    def evaluate_every(self) -> int:
        """Gradient steps between evaluations."""
        return self.evaluate.every

    @property
    def evaluate_episodes(self) -> int | Mapping[str, int] | None:
        """Episodes of an evaluation: one number for every task, each task's own by its id, or None:
        `auto`, which a launch settles (`safesweep.sweeps.evaluation`)."""
        episodes = self.evaluate.episodes
        return None if episodes == "auto" else episodes

    @property
    def maximize(self) -> str:
        """The score to maximise."""
        return self.objective.maximize

    @property
    def subject_to(self) -> Mapping[str, float]:
        """Costs and the limits that they must keep."""
        return {name: limit for name, limit in self.objective.subject_to.items()}

    @property
    def cpu(self) -> float:
        """CPUs of a trial."""
        return self.resources.cpu

    @property
    def gpu(self) -> float:
        """A trial's share of a GPU."""
        return self.resources.gpu

    @property
    def configs_per_trial(self) -> int:
        """Configurations that share one population; 1 for `auto`."""
        return 1 if self.population == "auto" else self.population

    @property
    def auto_population(self) -> bool:
        """`configs_per_trial: auto`: a launch measures it, and plans with 1 until then."""
        return self.population == "auto"

    @property
    def threads(self) -> int:
        """Threads of one trial: its whole CPUs, at least one."""
        return max(1, int(self.cpu))

    @property
    def compiled(self) -> bool:
        """Whether gradient steps are compiled."""
        return self.steps >= AUTO_COMPILE_STEPS if self.compile == "auto" else self.compile

    @property
    def rung_steps(self) -> list[int]:
        """Gradient steps at which early stopping may decide."""
        options = self.early_stopping
        return [] if options is None else options.steps(self.steps)

    def dataset_of(self, task: str) -> str:
        """Where the data of one of the sweep's tasks (its id) comes from."""
        return self.dataset if isinstance(self.dataset, str) else self.dataset[task]

    def episodes_of(self, task: str) -> int:
        """Episodes of an evaluation on one of the sweep's tasks (its id).

        Raises:
            InvalidInput: the number is to be chosen (`auto`) and has not been yet.
        """
        episodes = self.evaluate_episodes
        if episodes is None:
            raise InvalidInput("evaluate.episodes: auto has not been settled yet")
        return episodes if isinstance(episodes, int) else episodes[task]

    def cost_limit_of(self, task: str) -> float:
        """The sweep's cost limit of an episode, or the task's own."""
        from safesweep.trainables.tasks.registry import get_task

        return get_task(task).limit_or_own(self.cost_limit)

    def resolve(self, algorithm: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """The full configuration of `parameters` (canonical names) over the fixed values.

        Raises:
            InvalidInput: a value that the method does not allow.
        """
        return self._methods[algorithm].resolve(parameters)

    def space_for(self, algorithm: str) -> SearchSpace:
        """The space that is searched for one algorithm, under the canonical names.

        It is the registered space where the file names none; fixed values leave it.
        """
        return self._methods[algorithm].space

    def points_for(self, algorithm: str) -> list[dict[str, Value]]:
        """The points that the search starts from, whole and under the canonical names.

        A hyperparameter that a point does not name takes the method's default.
        """
        return self._methods[algorithm].points(self.search.points or ())

    @cached_property
    def _methods(self) -> dict[str, MethodSpace]:
        return {
            name: _method_space(
                name,
                self.fixed,
                self.methods.get(name, MethodOptions()),
                self.space,
                printed_for_tasks(name, self.tasks, self.settings),
            )
            for name in self.algorithms
        }


def _as_yaml(content: Mapping[str, Any]) -> str:
    text: str = yaml.safe_dump(dict(content), sort_keys=False, default_flow_style=None)
    return text


def _seed_range(content: Mapping[Any, Any]) -> SeedRange:
    """`seeds: {from: 2, to: 16}`, checked."""
    problems, keys = Problems(), ("from", "to")
    problems.add(*key_problems("seeds", content, keys, keys))
    for key in keys:
        with problems.collected():
            if key in content:
                require_number(f"seeds.{key}", content[key], 1, MOST_SEEDS, integer=True)
    problems.check()
    least, most = int(content["from"]), int(content["to"])
    if least > most:
        raise InvalidInput(
            f"seeds.from: {least} is not allowed; it must be at most seeds.to ({most})"
        )
    return SeedRange(**{"from": least, "to": most})


def _search_of_budget(
    search: SearchOptions, budget: BudgetOptions, steps: int | None
) -> SearchOptions:
    """What a budget leaves to say of the search."""
    problems = Problems()
    if search.method != "gp" and "method" in search.model_fields_set:
        problems.add(
            f"search.method: {search.method!r} is not allowed; a budget has a search of its own, gp"
        )
    for key, value in (("num_configs", search.num_configs), ("parallel", search.parallel)):
        if value is not None:
            problems.add(f"search.{key}: a budget decides on it; leave it out")
    key, runs = "runs", budget.runs
    if budget.gradient_steps is not None:
        key, runs = "gradient_steps", None if steps is None else budget.gradient_steps // steps
    if runs is not None and runs < FEWEST_BUDGET_RUNS:
        given = getattr(budget, key)
        problems.add(
            f"budget.{key}: {given} is not allowed; the first round alone takes "
            f"{FEWEST_BUDGET_RUNS} runs"
            + ("" if steps is None or runs == given else f" of {steps} steps")
        )
    problems.check()
    return search.model_copy(update={"method": "gp", "points": search.points or None})


def _method_space(
    algorithm: str,
    fixed: Mapping[str, Any],
    own: MethodOptions,
    space: Mapping[str, Any] | None,
    printed: Mapping[str, Any],
) -> MethodSpace:
    """A method's hyperparameters in a sweep: what it has of its own goes before what all share,
    and leaves the space that all share."""
    spellings = {
        spelling
        for field in MethodSpace(algorithm, {}).config_class.describe()
        if own.fixed.keys() & {field["name"], field["alias"]}
        for spelling in (field["name"], field["alias"])
    }

    def without_own(values: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in values.items() if key not in spellings}

    given = without_own(space) if own.space is None and space is not None else own.space
    return MethodSpace(algorithm, {**without_own(fixed), **own.fixed}, given, printed)


def printed_for_tasks(
    algorithm: str, tasks: Sequence[str], settings: str | None
) -> Mapping[str, Any]:
    """The printed settings of a method on the tasks of a sweep; nothing without `settings`.

    Raises:
        InvalidInput: nothing is known of the method, or tasks have different settings.
    """
    if settings is None or not tasks:
        return {}
    from safesweep.trainables.methods.paper_settings import printed_settings

    first, *others = tasks
    printed = printed_settings(algorithm, first, settings).values
    for task in others:
        own = printed_settings(algorithm, task, settings).values
        names = sorted(n for n in printed.keys() | own.keys() if printed.get(n) != own.get(n))
        if names:
            raise InvalidInput(
                f"settings: {settings!r} has another {', '.join(names)} of {algorithm} on {task} "
                f"than on {first}; they need sweeps of their own"
            )
    return printed


def _load_plugins(value: object) -> None:
    """Load the plugins that a sweep names.

    Raises:
        InvalidInput: they are no names, or one cannot be loaded.
    """
    from safesweep.search_spaces.plugins import load_installed_plugins, load_plugin

    load_installed_plugins()
    if value is not None and value != () and value != []:
        _each("plugins", value, lambda name: load_plugin(name).source.name)


def _each(field: str, value: object, known: Callable[[str], str]) -> tuple[str, ...]:
    """What `known` makes of a name, or of each of a list of them."""
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not names:
        raise InvalidInput(
            f"{field}: {shown(value)} is not allowed; it must be a name or a list"
            f"{quotes_hint(value)}"
        )
    problems, found = Problems(), []
    for name in names:
        with problems.collected():
            if not isinstance(name, str):
                raise InvalidInput(f"{field}: {shown(name)} is not a name{quotes_hint(name)}")
            found.append(known(name))
    problems.check()
    return _distinct(field, found)


def _distinct(field: str, values: Sequence[T]) -> tuple[T, ...]:
    seen: set[T] = set()
    for value in values:
        if value in seen:
            raise InvalidInput(f"{field}: {value} is given twice")
        seen.add(value)
    return tuple(values)


def _by_task(
    field: str,
    content: Mapping[Any, Any],
    tasks: Sequence[str] | None,
    checked: Callable[[str, object], T],
    needed: str,
) -> dict[str, T]:
    """A field that gives each task of a sweep its own value, by the tasks' ids and in their order.

    Args:
        tasks: the sweep's, or None where they are not valid.
        checked: makes a value of what the file holds; it is given the name of its field.
        needed: what a task is told that has none.

    Raises:
        InvalidInput: whatever is wrong; the tasks without a value where nothing else is.
    """
    from safesweep.trainables.tasks.registry import get_task

    problems = Problems()
    values: dict[str, T] = {}
    for given, value in content.items():
        task = None
        with problems.collected(f"{field}: "):
            if not isinstance(given, str):
                raise InvalidInput(f"the key {shown(given)} is not text{quotes_hint(given)}")
            task = get_task(given).name
        if task is None:
            continue
        with problems.collected():
            if tasks is not None and task not in tasks:
                own = listed(tasks)
                raise InvalidInput(f"{field}.{given}: is not a task of the sweep, which has {own}")
            if task in values:
                raise InvalidInput(f"{field}.{given}: {task} is given twice")
            values[task] = checked(f"{field}.{given}", value)
    problems.check()
    missing = [task for task in tasks or () if task not in values]
    problems.add(*(f"{field}.{task}: is missing; {needed}" for task in missing))
    problems.check()
    return {task: values[task] for task in tasks or values}


def _number_of_episodes(field: str, value: object) -> int:
    return int(require_number(field, value, 1, MOST_EPISODES, integer=True))


def _dataset_source(field: str, value: object) -> str:
    from safesweep.trainables.data.sources import is_dataset_place

    if isinstance(value, str) and (value in DATASET_SOURCES or is_dataset_place(value)):
        return value
    hint = did_you_mean(value, DATASET_SOURCES) if isinstance(value, str) else quotes_hint(value)
    raise InvalidInput(
        f"{field}: {shown(value)} is not one of {', '.join(DATASET_SOURCES)}, nor an existing "
        f"file{hint}"
    )
