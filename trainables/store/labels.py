"""What users note down of their sweeps: tags, a note, and whether a sweep is archived.

Labels lie in a table of their own, a part a sweep, so that a driver that writes its sweep's row and
somebody who labels it never overwrite each other.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from safesweep.search_spaces.validation import InvalidInput, did_you_mean, is_missing, shown
from safesweep.trainables.store.reader import StoreReader
from safesweep.trainables.store.writer import ResultWriter

LONGEST_NOTE = 1000
"""Characters."""
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,49}")


@dataclass(frozen=True)
class Labels:
    """What is noted down of one sweep.

    Attributes:
        tags: words to find it by, in alphabetical order.
        note: a sentence or two; empty for none.
        archived: whether lists leave it out.
        deleted: whether it was deleted; what is left in its folder other sweeps ask for.
    """

    tags: tuple[str, ...] = ()
    note: str = ""
    archived: bool = False
    deleted: bool = False


def read_labels(store: StoreReader) -> dict[str, Labels]:
    """The labels of each sweep that has any."""
    return {
        row["sweep"]: Labels(
            () if row["tags"] is None else tuple(map(str, row["tags"])),
            "" if is_missing(row["note"]) else str(row["note"]),
            _is_set(row["archived"]),
            _is_set(row["deleted"]),
        )
        for row in store.labels().to_dict("records")
    }


def _is_set(value: object) -> bool:
    return not is_missing(value) and bool(value)


def write_labels(writer: ResultWriter, labels: Labels) -> None:
    """Write the labels of the writer's sweep; empty ones are removed.

    Raises:
        StoreProblem: the store cannot be written.
    """
    if labels == Labels():
        writer.remove_table("labels")
    else:
        writer.write_labels(labels.tags, labels.note or None, labels.archived, labels.deleted)


def note_sweep(storage: str, sweep: str, note: str) -> None:
    """Note down a text of a sweep, in place of the one that was there; an empty one removes it.

    Raises:
        InvalidInput: an unknown sweep, or a text that is too long.
        StoreProblem: the store cannot be read or written.
    """
    text = " ".join(note.split())
    if len(text) > LONGEST_NOTE:
        raise InvalidInput(
            f"note: {shown(text)} has {len(text):,} characters; at most {LONGEST_NOTE:,} are "
            "allowed"
        )
    labels = labels_of(storage, sweep)
    write_labels(ResultWriter(storage, sweep), replace(labels, note=text))


def tag_sweep(
    storage: str, sweep: str, add: Iterable[str] = (), remove: Iterable[str] = ()
) -> tuple[str, ...]:
    """Give a sweep tags, and take others from it; which it has then.

    Raises:
        InvalidInput: an unknown sweep, text that cannot be a tag, or a tag to remove that the sweep
            does not have.
        StoreProblem: the store cannot be read or written.
    """
    added, removed = list(add), list(remove)
    for tag in added:
        if not _TAG.fullmatch(tag):
            raise InvalidInput(
                f"tag: {shown(tag)} is not allowed; it must be 1 to 50 letters, digits, '.', '_', "
                "':', '/' or '-', and start with a letter or a digit"
            )
    labels = labels_of(storage, sweep)
    for tag in removed:
        if tag not in labels.tags:
            has = ", ".join(labels.tags) or "none"
            raise InvalidInput(
                f"remove: {shown(tag)} is no tag of sweep {sweep!r}, which has {has}"
                f"{did_you_mean(tag, labels.tags)}"
            )
    tags = tuple(sorted({*labels.tags, *added}.difference(removed)))
    if tags != labels.tags:
        write_labels(ResultWriter(storage, sweep), replace(labels, tags=tags))
    return tags


def labels_of(storage: str, sweep: str) -> Labels:
    """The labels of a sweep, empty ones where it has none.

    Raises:
        InvalidInput: the store does not know the sweep.
    """
    store = StoreReader(storage)
    store.require_sweeps([sweep])
    found = read_labels(store).get(sweep, Labels())
    return replace(found, deleted=False)
