"""The JSON schema of a sweep file, for editors: the fields that `SweepSpec` declares, with the
methods, their hyperparameters and the tasks that there are."""

from collections.abc import Callable, Mapping
from typing import Any

from safesweep.sweeps.spec.sweep_spec import (
    ADAPTIVE_METHODS,
    DATASET_SOURCES,
    MOST_SEEDS,
    SEARCH_METHODS,
    SweepSpec,
)

JsonSchema = dict[str, Any]
_TYPES = {"bool": "boolean", "int": "integer", "float": "number", "str": "string"}


def sweep_file_schema() -> JsonSchema:
    """What an editor can check and complete.

    What depends on several values, such as an evaluation within the steps of a run, and whether
    there is such a dataset, only `SweepSpec` knows.
    """
    from safesweep.trainables.methods.configs import described_methods
    from safesweep.trainables.tasks.registry import TASKS

    methods = described_methods()
    schema = SweepSpec.model_json_schema()
    _tidy(schema)
    schema |= {"title": "safesweep", "description": "A sweep: what is trained, on what, and how."}
    properties, definitions = schema["properties"], schema["$defs"]
    names = [name for task in TASKS.values() for name in dict.fromkeys((task.name, task.key))]
    definitions["task"] = {"enum": names}
    task = {"$ref": "#/$defs/task"}
    sources = [{"enum": list(DATASET_SOURCES)}, {"type": "string"}]
    by_task = {"propertyNames": task, "additionalProperties": {"anyOf": sources}}
    properties["algorithm"]["anyOf"] = _one_or_more({"enum": list(methods)})
    properties["tasks"]["anyOf"] = _one_or_more(task)
    properties["dataset"]["anyOf"] = [*sources, {"type": "object", **by_task}]
    listed, by_need = properties["seeds"].pop("oneOf")
    count = {"type": "integer", "minimum": 1, "maximum": MOST_SEEDS}
    properties["seeds"]["anyOf"] = [{**listed, "uniqueItems": True}, count, by_need]
    episodes = definitions["EvaluateOptions"]["properties"]["episodes"]["anyOf"]
    episodes[-1] |= {"propertyNames": task, "additionalProperties": episodes[0]}
    definitions["SearchOptions"]["allOf"] = _search_rules()
    own = definitions.pop("MethodOptions")
    properties["methods"] = {
        "description": properties["methods"]["description"],
        "type": ["object", "null"],
        "properties": {name: _own_settings(own, name) for name in methods},
        "additionalProperties": False,
    }
    properties["include"] = {
        "description": "Sweep files that this one builds on; it goes before them, key by key.",
        "anyOf": _one_or_more({"type": "string"}),
    }
    # What is missing here may stand in an included file.
    required = schema.pop("required")
    schema["allOf"] = [{"if": {"required": ["include"]}, "else": {"required": required}}]
    for name, method in methods.items():
        fields = method.config_class.describe()
        definitions[f"{name}.values"] = _by_name(fields, _value)
        definitions[f"{name}.space"] = _by_name(fields, _entry)
        values = {"$ref": f"#/$defs/{name}.values"}
        searched = {
            "fixed": values,
            "space": {"$ref": f"#/$defs/{name}.space"},
            "search": {"properties": {"points": {"items": values}}},
        }
        this = {"const": name}
        chosen = {"anyOf": [this, {"type": "array", "contains": this}]}
        schema["allOf"].append(
            {
                "if": {"required": ["algorithm"], "properties": {"algorithm": chosen}},
                "then": {"properties": searched},
            }
        )
    return schema


def _own_settings(section: JsonSchema, name: str) -> JsonSchema:
    """The section of one method, with its hyperparameters."""
    places = {"fixed": "values", "space": "space"}
    fields = {
        key: {
            "description": section["properties"][key]["description"],
            "$ref": f"#/$defs/{name}.{places[key]}",
        }
        for key in places
    }
    return {**section, "properties": fields}


def _tidy(node: Any) -> None:
    """Drop pydantic's titles, and the nulls that stand for what is not given."""
    if isinstance(node, list):
        for inner in node:
            _tidy(inner)
    if not isinstance(node, dict):
        return
    for field in node.get("properties", {}).values():
        field.pop("title", None)
        default = field.get("default")
        if isinstance(default, dict):
            field["default"] = {key: value for key, value in default.items() if value is not None}
        elif default is None:
            field.pop("default", None)
    if isinstance(node.get("description"), str):
        node["description"] = " ".join(node["description"].split())
    for inner in node.values():
        _tidy(inner)


def _one_or_more(name: JsonSchema) -> list[JsonSchema]:
    return [name, {"type": "array", "items": name, "minItems": 1, "uniqueItems": True}]


def _search_rules() -> list[JsonSchema]:
    """Which keys go with which method of search."""
    null = {"type": "null"}
    return [
        {
            "if": {"properties": {"method": {"const": "grid"}}},
            "then": {"properties": {"num_configs": null, "points": {"maxItems": 0}}},
            "else": {
                "required": ["num_configs"],
                "properties": {"num_configs": {"type": "integer"}},
            },
        },
        {
            "if": {
                "required": ["method"],
                "properties": {"method": {"enum": list(ADAPTIVE_METHODS)}},
            },
            "else": {"properties": {"parallel": null}},
        },
        {
            "if": {
                "required": ["method"],
                "properties": {"method": {"enum": sorted({*SEARCH_METHODS} - {*ADAPTIVE_METHODS})}},
            },
            "then": {"properties": {"warm_start": {"const": False}}},
        },
    ]


def _by_name(
    fields: list[JsonSchema], made: Callable[[Mapping[str, Any]], JsonSchema]
) -> JsonSchema:
    """A property for each hyperparameter, under its name and the papers' symbol."""
    properties = {
        name: made(field) for field in fields for name in (field["name"], field["alias"]) if name
    }
    return {"properties": properties, "additionalProperties": False}


def _value(field: Mapping[str, Any]) -> JsonSchema:
    """One hyperparameter's value."""
    choices = list(field["choices"] or ()) or None
    limits = {"minimum": field["low"], "maximum": field["high"], "enum": choices}
    return {
        "type": _TYPES[field["type"]],
        **{key: limit for key, limit in limits.items() if limit is not None},
        "default": field["default"],
        "description": f"{field['description']} ({field['source']})".strip(),
    }


def _entry(field: Mapping[str, Any]) -> JsonSchema:
    """One hyperparameter's line of a space: choices or, of a number, a range."""
    value = _value(field)
    about = {"description": value.pop("description"), "default": [value.pop("default")]}
    choices = {"type": "array", "items": value, "minItems": 1, "uniqueItems": True}
    if value["type"] not in ("integer", "number"):
        return {**choices, **about}
    log = {"type": "boolean", "default": False}
    step = {"type": value["type"], "exclusiveMinimum": 0}
    ends = {"low": value, "high": value, "log": log, "step": step}
    numbers = {"required": ["low", "high"], "properties": ends, "additionalProperties": False}
    return {"anyOf": [choices, {"type": "object", **numbers}], **about}
