"""What a sweep's rounds were spent on and what they ended in, in words."""

from dataclasses import asdict
from typing import Any

from safesweep.search_spaces.space import settings_text
from safesweep.sweeps.planning.budget import PHASES, Chosen
from safesweep.sweeps.planning.plan import MethodTaskPlan
from safesweep.sweeps.planning.rounds import Rounds
from safesweep.trainables.store.planned import BudgetChoice


def describe_spent(rounds: Rounds) -> str:
    """Runs by what they were for, in the order of the phases; empty before the first round."""
    parts = [f"{rounds.spent[phase]} {phase}" for phase in PHASES if rounds.spent[phase]]
    return f"runs for {', '.join(parts)}" if parts else ""


def recorded_choice(task_plan: MethodTaskPlan, chosen: Chosen | None) -> dict[str, Any]:
    """What a budget has ended in, as `BudgetChoice` has it; empty where there is no budget, it has
    not ended, or nothing can be chosen.

    Args:
        chosen: `task_plan.chosen()`, which takes its time.
    """
    budget = task_plan.spec.budget
    if budget is None or not task_plan.exhausted or chosen is None:
        return {}
    config_id = task_plan.suggested[chosen.index][0].config_id
    return asdict(BudgetChoice(config_id, chosen.bound, budget.confidence, chosen.passed))


def describe_choice(task_plan: MethodTaskPlan, chosen: Chosen | None) -> str:
    """The same in words: the choice with its bound, or that nothing passed and what it would take;
    empty where there is no budget, or it has not ended."""
    budget = task_plan.spec.budget
    if budget is None or not task_plan.exhausted:
        return ""
    if chosen is None:
        return "nothing can be chosen: every configuration lost a seed"
    runs = task_plan.suggested[chosen.index]
    settings = settings_text(task_plan.search.space.active(runs[0].config))
    name = f"{runs[0].config_id} ({settings})" if settings else runs[0].config_id
    bound = f"{chosen.bound:.3g} times the limit (at {budget.confidence:.4g})"
    if chosen.passed:
        return (
            f"chose {name}: reward {chosen.reward:.3f}, cost {chosen.cost:.3g}, at most {bound}; "
            f"{len(runs)} seeds of it and {len(task_plan.run_ids) - len(runs)} of others"
        )
    if chosen.seeds_to_pass is None:
        take = "its cost is not below the limit: it would take other configurations"
    else:
        take = f"about {chosen.seeds_to_pass} more seeds of it would take it there"
    return f"nothing passed: {name} comes nearest and may cost {bound}; {take}"
