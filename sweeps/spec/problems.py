"""pydantic's errors about a sweep file, as this product says things: a line a problem, which names
the field, the bad value and what is allowed. What is allowed is read from the declared fields, in
the form of their JSON schema."""

import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from safesweep.search_spaces.validation import (
    InvalidInput,
    Problems,
    key_problems,
    kind_of_yaml,
    number_within,
    quotes_hint,
    require_choice,
    shown,
)

Schema = Mapping[str, Any]
Location = tuple[int | str, ...]
_KEY_ERRORS = ("extra_forbidden", "invalid_key", "missing")
MOST_LINES = 50
_KEY = "[key]"
"""The last step of pydantic's location where a key is wrong and not its value."""


def invalid_input(error: ValidationError, content: object, model: type[BaseModel]) -> InvalidInput:
    """All that pydantic found wrong when it made a `model` of `content`.

    What a validator of the model raises is an InvalidInput, whose lines are taken as they are.
    """
    schema, problems = model.model_json_schema(), Problems()
    errors = error.errors(include_url=False)
    said: set[Location] = set()
    sections: set[Location] = set()
    for found in sorted(errors, key=lambda each: each["type"] not in _KEY_ERRORS):
        location, raised = found["loc"], found.get("ctx", {}).get("error")
        if isinstance(raised, InvalidInput):
            problems.add(*raised.lines)
        elif found["type"] in _KEY_ERRORS:
            steps, path, node = _follow(schema, location[:-1])
            if steps in sections:
                continue
            sections.add(steps)
            section: Any = content
            for step in steps:
                section = _entry(section, step)
            problems.add(*key_problems(path, section, node["properties"], node.get("required", ())))
        elif location[-1:] == (_KEY,):
            _, path, node = _follow(schema, location[:-2])
            problems.add(*_bad_key(path, node, found["input"]))
        else:
            # A union says what each of its members wanted, a list that it lacks its bad entries.
            steps, path, node = _follow(schema, location)
            deeper = any(location == each["loc"][:-1] for each in errors)
            if steps not in said and not deeper:
                said.add(steps)
                problems.add(_refusal(path, node, found["input"]))
    lines = problems.lines
    more = [f"and {len(lines) - MOST_LINES:,} more problems"] if len(lines) > MOST_LINES else []
    return InvalidInput(*lines[:MOST_LINES], *more)


def _entry(section: Any, step: int | str) -> Any:
    """What a step leads to. A key that is no text is text there, in one of Python's two forms; one
    in neither leads to nothing."""
    if isinstance(section, Mapping) and step not in section:
        return next((value for key, value in section.items() if step in (str(key), repr(key))), {})
    return section[step]


def _follow(schema: Schema, location: Location) -> tuple[Location, str, Schema]:
    """Where a location leads: its steps without the names of a union's members, the dotted path,
    and the schema there."""
    node, path, steps = _resolved(schema, schema), "", []
    for place, step in enumerate(location):
        if step in node.get("properties", ()):
            node = node["properties"][step]
        elif "additionalProperties" in node:
            node = node["additionalProperties"] or {}
        elif isinstance(step, int) and "items" in node:
            node = node["items"]
        else:
            # The name of a union's member: a list's entries have numbers.
            entries = [member for member in node.get("oneOf", ()) if "items" in member]
            if entries and all(isinstance(deeper, int) for deeper in location[place + 1 :]):
                node = entries[0]
                continue
            break
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else step
        steps.append(step)
        node = _resolved(node if isinstance(node, Mapping) else {}, schema)
    return tuple(steps), path, node


def _resolved(node: Schema, schema: Schema) -> Schema:
    """A node without its reference, and without the null that it may be instead."""
    members = [each for each in node.get("anyOf", ()) if each.get("type") != "null"]
    if len(members) == 1:
        node = members[0]
    return schema["$defs"][node["$ref"].rpartition("/")[2]] if "$ref" in node else node


def _bad_key(path: str, node: Schema, key: object) -> list[str]:
    if "propertyNames" in node:
        return key_problems(path, [key], node["propertyNames"]["enum"])
    return [f"{path}: the key {shown(key)} is not text{quotes_hint(key)}"]


def _refusal(path: str, node: Schema, value: object) -> str:
    if node.get("type") == "object":
        keys = node.get("properties") or node.get("propertyNames", {}).get("enum")
        wanted = f"keys and values ({', '.join(keys)})" if keys else "hyperparameters and values"
        return f"{path or 'spec'}: must hold {wanted}, not {kind_of_yaml(value)}"
    path = re.sub(r"\[\d+\]$", "", path)  # A list of numbers or names is short.
    choices = node.get("enum") or [node["const"]] if "const" in node or "enum" in node else []
    if choices:
        try:
            require_choice(path, value, choices)
        except InvalidInput as problem:
            return str(problem)
    hint = quotes_hint(value) if node.get("type") == "string" else ""
    return f"{path}: {shown(value)} is not allowed; it must be {_allowed(node)}{hint}"


def _allowed(node: Schema) -> str:
    """What a node takes, for a message."""
    *others, last = _options(node)
    return f"{', '.join(others)} or {last}" if others else last


def _options(node: Schema) -> list[str]:
    kind = node.get("type")
    if members := node.get("anyOf") or node.get("oneOf"):
        return [option for member in members for option in _options(member)]
    if "const" in node:
        return [str(node["const"])]
    if kind == "boolean":
        return ["true", "false"]
    if kind in ("integer", "number"):
        return [number_within(node.get("minimum"), node.get("maximum"), kind == "integer")]
    if kind == "array":
        whole = node["items"].get("type") == "integer"
        return ["a list of whole numbers" if whole else "a list"]
    return [node["description"]]
