"""Files that say how to work on this and how to cite it."""

from pathlib import Path

import yaml

from safesweep.analysis.published import PAPERS
from safesweep.trainables.methods.registry import ALGORITHMS

ROOT = Path(__file__).parents[1]


def test_every_paper_is_cited_with_its_method() -> None:
    references = yaml.safe_load((ROOT / "CITATION.cff").read_text())["references"]
    cited = {entry["notes"].rsplit("the method ", 1)[-1].rstrip(".") for entry in references}
    assert cited == set(PAPERS) <= set(ALGORITHMS)
    assert all(entry["authors"] and entry["title"] for entry in references)


def test_hooks_need_no_environment_of_a_certain_name() -> None:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    entries = [hook["entry"] for hook in repository["hooks"]]
    assert len(entries) == 3 and all(entry.startswith("python -m ") for entry in entries)


def test_the_guide_names_places_that_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for name in ("trainables/methods/method.py", "trainables/methods/registry.py",
                 "trainables/tasks/registry.py", "trainables/tasks/gymnasium_task.py",
                 "analysis/selection/rules.py", "trainables/training/observers.py",
                 "trainables/store/schema.py", "tests/test_house.py"):  # fmt: skip
        assert name in text and (ROOT / name).is_file()
