"""A sweep as one HTML page that needs nothing beside it: the page that `safesweep serve` shows."""

from safesweep.analysis.page.content import sweep_content
from safesweep.analysis.page.render import whole_page
from safesweep.analysis.selection.choice import Choice
from safesweep.analysis.store.reader import ResultStore


def make_report(
    store: ResultStore,
    sweep: str,
    choice: Choice,
    rule: str,
    command: str,
) -> str:
    """The page, with its data, charts and style in it.

    Args:
        choice: what the rule chose of the sweep.
        command: what makes this page again.

    Raises:
        InvalidInput: the store does not know the sweep.
    """
    return whole_page(sweep, sweep_content(store, sweep, choice, rule, command))
