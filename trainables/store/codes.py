"""Runs of several codes beside each other: what sets them apart may be the code."""

from collections import Counter
from collections.abc import Iterable, Mapping

import pandas

from safesweep.search_spaces.validation import is_missing, listed
from safesweep.trainables.store.schema import IMPORTED


def code_of(version: object, digest: object, dataset: object = None) -> str | None:
    """The code of a run, as it is told from others; None where it is not known, or the run was
    imported, which no code of ours has trained."""
    if dataset == IMPORTED or (is_missing(version) and is_missing(digest)):
        return None
    known = [str(part) for part in (digest, version) if not is_missing(part)]
    return " of ".join(known)


def codes_of(runs: pandas.DataFrame) -> list[str | None]:
    """The code of each row of `runs`."""
    columns = ("code_version", "code_digest", "dataset_id")
    return [code_of(*row) for row in zip(*(runs[name] for name in columns), strict=True)]


def several_codes(codes: Mapping[str, Iterable[str | None]]) -> str | None:
    """One line where runs that are compared are of several codes; None where they are not.

    Runs of one digest are of one code, whatever version it was part of.

    Args:
        codes: of the runs of each group that is compared, by its name.
    """
    mixed: list[str] = []
    counts: Counter[str] = Counter()
    for group, found in codes.items():
        known = Counter(code for code in found if code is not None)
        if len({code.partition(" of ")[0] for code in known}) > 1:
            mixed.append(group)
            counts.update(known)
    if not mixed:
        return None
    said = listed((f"{code} ({number:,} runs)" for code, number in counts.most_common()), 4)
    return f"the runs of {listed(mixed, 3)} are of several codes, which may set them apart: {said}"
