import pandas
import pytest

from safesweep.analysis.ablations.engine.settings import COLUMNS
from safesweep.analysis.ablations.safefql.comparisons import COVERAGE, LEVELS, SPECIFICITY
from safesweep.analysis.claims import NOT_TESTED, SUPPORTED, decide


def results(shift: float) -> pandas.DataFrame:
    """Specificity by seed at each level, `shift` higher from one level to the next."""
    rows = [
        ("BoatNavigation-v0", "", name, float("nan"), seed, 1, SPECIFICITY, base + 0.01 * seed)
        for name, base in [
            ("none", 0.9),
            *(
                (f"miscoverage {level:g}", 0.96 - shift * place)
                for place, level in enumerate(LEVELS)
            ),
        ]
        for seed in range(3)
    ]
    return pandas.DataFrame(rows, columns=list(COLUMNS))


@pytest.mark.parametrize(("shift", "verdict"), [(0.0, NOT_TESTED), (0.01, SUPPORTED)])
def test_a_threshold_that_does_not_move_tests_nothing(shift: float, verdict: str) -> None:
    claim = next(claim for claim in COVERAGE.claims if claim.name == "coverage-0.2")
    whole = decide(claim, claim.judge(results(shift)))
    assert whole.verdict == verdict
    assert ("the threshold stayed at 0" in whole.remark) == (verdict == NOT_TESTED)
