"""Values, sweep files, tables and names that somebody once typed, or would to do harm."""

from collections.abc import Callable
from typing import Any

import yaml

SPEC: dict[str, Any] = {
    "name": "fuzz",
    "algorithm": "bc",
    "tasks": ["BoatNavigation-v0"],
    "seeds": [0, 1],
    "space": {"learning_rate": [0.001, 0.01]},
    "fixed": {"hidden_dim": 8},
    "steps": 8,
    "evaluate": {"every": 4, "episodes": 2},
    "search": {"method": "grid"},
    "objective": {"maximize": "normalized_reward", "subject_to": {"normalized_cost": 1.0}},
    "resources": {"cpu": 1, "gpu": 0},
    "configs_per_trial": 1,
    "cost_limit": 10,
}

VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**63) - 1, 10**30, 10**400, -(10**400),
    0.5, -0.0, 1e-320, 1e308, float("inf"), float("-inf"), float("nan"), "", " ", "0", "1e400",
    "nan", "no", "~", "~nouser", "~nouser/x", "../..", "/", "//", "/dev/null",
    "/dev/zero/x", ".",
    "a" * 10_000, "\x00", "a\x00b", "\x1b[2J", "\u202e", "\ud800", "\udcff",
    "é", "\U0001d518", "'", '"', "`",
    "a=b", "=1+1", "a/b", "a\\b", "a b", "a\nb", "%s%n", "{}", "{0}", "$HOME", "*", "?", "[", "a;b",
    "-", "--", "-o", "CON", "None", "null", "2024-13-45", "s3://", "s3://KEY:SECRET@nowhere",
    "file://", "file:///nowhere", "://", "x://y", "gs://", "hdfs://", "http://nowhere", [], [[]],
    {}, {"": 0}, {"low": 1, "high": 0}, {"low": 0, "high": 0, "log": True}, {"low": 10**400},
    {"low": 1e-300, "high": 1e300, "log": True}, {"low": "a", "high": None}, [None],
    [True, 1, 1.0],
    ["a", 1], [0] * 50, list(range(30_000)), {"a": {"b": {"c": {}}}}, [10**400], {1: 2},
    {None: None},
)  # fmt: skip


def _bomb(width: int, depth: int) -> str:
    lines = [f"a0: &a0 [{', '.join(['0'] * width)}]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * width)}]" for n in range(1, depth)]
    return "\n".join([*lines, f"space: {{learning_rate: *a{depth - 1}}}", ""])


def _nested(opening: str, closing: str, depth: int) -> str:
    return f"space: {opening * depth}{closing * depth}\n"


TEXTS: dict[str, str | bytes] = {
    "empty": "",
    "only a comment": "# nothing\n",
    "a scalar": "text",
    "a list": "- a\n",
    "two documents": "name: a\n---\nname: b\n",
    "no text": b"\xff\xfe\x00\x01",
    "a zero byte": "name: a\x00b\n",
    "a tab": "name:\n\t- a\n",
    "a tag that runs code": "name: !!python/object/apply:os.system [true]\n",
    "an unknown tag": "name: !nothing x\n",
    "an alias bomb": _bomb(10, 9) + yaml.safe_dump(SPEC),
    "a wide alias bomb": _bomb(300, 3) + yaml.safe_dump(SPEC),
    "a mapping bomb": "\n".join(
        ["a0: &a0 {x: 1}", *(f"a{n}: &a{n} {{l: *a{n - 1}, r: *a{n - 1}}}" for n in range(1, 60))]
    ),
    "an alias within itself": "space: &a {learning_rate: *a}\n" + yaml.safe_dump(SPEC),
    "a list within itself": "seeds: &a [*a]\n",
    "a key that is a list": "? [a, b]\n: 1\n",
    "a merge of nothing": "<<: 1\nname: a\n",
    "a merge bomb": "a: &a {x: 1}\nb: &b {<<: [*a, *a, *a]}\nname: {<<: [*b, *b, *b]}\n",
    "deep lists": _nested("[", "]", 400),
    "very deep lists": _nested("[", "]", 100_000),
    "deep sections": _nested("{a: ", "}", 800),
    "deep blocks": "\n".join(" " * n + "a:" for n in range(900)),
    "open brackets": "[" * 5_000,
    "a long line": "name: " + "a" * 250_000,
    "a long number": "steps: " + "9" * 6_000,
    "a long hexadecimal number": "steps: 0x" + "f" * 60_000,
    "a number in base 60": "steps: " + "1:" * 3_000 + "1",
    "many keys": "\n".join(f"key{n}: {n}" for n in range(8_000)),
    "many seeds": f"seeds: {list(range(30_000))}\n",
    "too long": "# " + "x" * 2**20,
    "dates": "name: 2024-13-45\n",
    "a key given twice": "name: a\nname: b\n",
    "a percent directive": "%YAML 9.9\n---\nname: a\n",
    "a byte order mark": b"\xef\xbb\xbfname: a\n",
    "UTF-16": "name: a\n".encode("utf-16"),
}  # fmt: skip

TABLE = "algorithm,task,seed,normalized_reward,normalized_cost\nppo,Reach,0,0.5,0.5\n"
HEADER = TABLE.splitlines()[0]

TABLES: dict[str, str | bytes] = {
    "empty": "",
    "only a header": HEADER,
    "no text": b"\xff\xfe\x00\x01" * 50,
    "zero bytes": TABLE.replace("ppo", "p\x00o"),
    "a huge field": TABLE.replace("ppo", "p" * 300_000),
    "many columns": ",".join(f"c{n}" for n in range(5_000)) + "\n" + ",".join("0" * 5_000),
    "columns twice": HEADER + ",seed\nppo,Reach,0,0.5,0.5,1\n",
    "columns without a name": HEADER + ",,\nppo,Reach,0,0.5,0.5,1,2\n",
    "an open quotation": HEADER + '\n"ppo,Reach,0,0.5,0.5\n',
    "a huge seed": TABLE.replace(",0,", f",{10**30},"),
    "an enormous seed": TABLE.replace(",0,", f",{'9' * 5_000},"),
    "a fractional seed": TABLE.replace(",0,", ",0.5,"),
    "a negative seed": TABLE.replace(",0,", ",-1,"),
    "an infinite reward": TABLE.replace("0.5,0.5", "inf,-inf"),
    "no number": TABLE.replace("0.5,0.5", "a,b"),
    "a huge exponent": TABLE.replace("0.5,0.5", "1e999,1e-999"),
    "an odd hyperparameter": HEADER + ',hp_a"b\nppo,Reach,0,0.5,0.5,1\n',
    "an empty hyperparameter": HEADER + ",hp_\nppo,Reach,0,0.5,0.5,1\n",
    "a hyperparameter of SQL": HEADER
    + ",hp_x) FROM runs; DROP TABLE runs; --\nppo,R,0,0.5,0.5,1\n",
    "a long hyperparameter": HEADER + f",hp_{'x' * 70_000}\nppo,Reach,0,0.5,0.5,1\n",
    "a huge hyperparameter": HEADER + f",hp_a\nppo,Reach,0,0.5,0.5,{10**400}\n",
    "a huge step": HEADER + f",step\nppo,Reach,0,0.5,0.5,{10**25}\n",
    "escapes": TABLE.replace("ppo", "\x1b[2Jppo"),
    "a formula": TABLE.replace("ppo", "=cmd|' /C calc'!A0"),
    "a slash": TABLE.replace("ppo", "../../etc"),
    "an unknown status": HEADER + ",status\nppo,Reach,0,0.5,0.5,unheard\n",
    "a cost limit of text": HEADER + ",cost_limit\nppo,Reach,0,0.5,0.5,ten\n",
    "a negative cost limit": HEADER + ",cost_limit\nppo,Reach,0,0.5,0.5,-1\n",
    "a run id of its own": HEADER + ",run_id\nppo,Reach,0,0.5,0.5,../x\n",
    "a configuration of its own": HEADER + ",config_id\nppo,Reach,0,0.5,0.5,../x\n",
    "contradicting rows": TABLE + "ppo,Reach,0,0.1,0.1\n",
    "many rows": HEADER + "\n" + "ppo,Reach,0,0.5,0.5\n" * 3_000,
    "only line breaks": "\n" * 2_000,
    "carriage returns": TABLE.replace("\n", "\r"),
    "UTF-16": TABLE.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + TABLE.encode(),
    "semicolons": TABLE.replace(",", ";"),
    "a Parquet name": b"PAR1" + b"\x00" * 40 + b"PAR1",
    "surrogates": TABLE.encode().replace(b"ppo", b"\xed\xa0\x80"),
}

STORE_COMMANDS: tuple[Callable[[], list[str]], ...] = (
    lambda: ["list"],
    lambda: ["show", "methods"],
    lambda: ["select", "--sweep", "methods"],
    lambda: ["select", "--format", "json"],
    lambda: ["query", "SELECT count(*) FROM evaluations JOIN runs USING (run_id)"],
    lambda: ["query", "SELECT * FROM episodes ORDER BY ALL LIMIT 3"],
    lambda: ["check"],
)
"""Commands on a store of `tests.fixture_store` that are quick."""
