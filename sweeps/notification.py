"""Telling somebody that a sweep has ended: by a command of theirs, or by a request to a webhook."""

import json
import os
import subprocess
import urllib.request

from safesweep.search_spaces.validation import one_line
from safesweep.sweeps.output import say

WAIT_SECONDS = 10.0
"""For a webhook's answer."""


def tell_end(target: str, sweep: str, storage: str, exit_code: int) -> bool:
    """Run a command, or send JSON to a URL; whether that worked. What did not is said in one line,
    and changes nothing about the sweep.

    Args:
        target: an http or https URL, which is sent `{"sweep", "storage", "exit_code"}`; or a
            command for the shell, which finds them in SAFESWEEP_SWEEP, SAFESWEEP_STORAGE and
            SAFESWEEP_EXIT_CODE.
    """
    said: dict[str, str | int] = {"sweep": sweep, "storage": storage, "exit_code": exit_code}
    problem = _post(target, said) if is_url(target) else _run(target, said)
    if problem is not None:
        say(f"{sweep}: on-end: {problem}")
    return problem is None


def is_url(target: str) -> bool:
    """Whether it is a webhook's address."""
    return target.startswith(("http://", "https://"))


def _post(url: str, said: dict[str, str | int]) -> str | None:
    try:
        request = urllib.request.Request(
            url, json.dumps(said).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=WAIT_SECONDS):
            return None
    except (OSError, ValueError) as problem:
        # The address itself may hold a secret.
        return f"the webhook did not take it ({one_line(problem)})"


def _run(command: str, said: dict[str, str | int]) -> str | None:
    told = {f"SAFESWEEP_{name.upper()}": str(value) for name, value in said.items()}
    try:
        done = subprocess.run(command, shell=True, env={**os.environ, **told}, check=False)
    except (OSError, ValueError) as problem:
        return f"the command could not be started ({one_line(problem)})"
    code = done.returncode
    return f"the command ended with exit code {code}" if code else None
