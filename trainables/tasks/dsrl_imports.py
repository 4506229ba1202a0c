"""DSRL's environments, made to import on current Python.

dsrl 0.1.0 and safety-gymnasium 0.4.0 were written for Python 3.10 and older. This module imports
them quietly and repairs what keeps them from importing.
"""

import contextlib
import copy
import ctypes
import dataclasses
import inspect
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from functools import cache, partial
from importlib import import_module
from types import ModuleType
from typing import Any

_import_lock = threading.RLock()


@contextlib.contextmanager
def copied_dataclass_defaults() -> Iterator[None]:
    """While open, dataclasses may have unhashable defaults such as numpy arrays.

    Python 3.11 refuses them (and safety-gymnasium uses them); here each instance gets a copy.
    Lists, dictionaries and sets stay refused, as always.
    """
    original = dataclasses.dataclass

    def prepared(cls: type) -> type:
        for name in inspect.get_annotations(cls):
            default = cls.__dict__.get(name)
            if isinstance(default, list | dict | set | dataclasses.Field):
                continue
            if default is not None and type(default).__hash__ is None:
                factory = partial(copy.deepcopy, default)
                setattr(cls, name, dataclasses.field(default_factory=factory))
        return cls

    def tolerant(cls: type | None = None, /, **options: Any) -> Any:
        if cls is None:
            return lambda decorated: original(prepared(decorated), **options)
        return original(prepared(cls), **options)

    dataclasses.dataclass = tolerant
    try:
        yield
    finally:
        dataclasses.dataclass = original


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Discard what the process prints, by Python and by C."""
    with (
        open(os.devnull, "w") as named,
        os.fdopen(os.dup(named.fileno()), "w") as nowhere,
    ):
        # `nowhere` has no name, which keeps bullet-safety-gym's own redirection working.
        saved = []
        for descriptor in (1, 2):
            with contextlib.suppress(OSError):
                saved.append((descriptor, os.dup(descriptor)))
        sys.stdout.flush()
        sys.stderr.flush()
        ctypes.CDLL(None).fflush(None)
        try:
            for descriptor, _ in saved:
                os.dup2(nowhere.fileno(), descriptor)
            with (
                contextlib.redirect_stdout(nowhere),
                contextlib.redirect_stderr(nowhere),
            ):
                yield
        finally:
            # What C has buffered would otherwise appear after all.
            ctypes.CDLL(None).fflush(None)
            for descriptor, duplicate in saved:
                os.dup2(duplicate, descriptor)
                os.close(duplicate)


@cache
def dsrl_environments(package: str) -> ModuleType:
    """`dsrl.<package>.gym_envs`, imported without prints, warnings or folders made."""
    chosen = os.environ.get("DSRL_DATASET_DIR")
    with (
        _import_lock,
        silence(),
        warnings.catch_warnings(),
        copied_dataclass_defaults(),
    ):
        warnings.simplefilter("ignore")
        os.environ.setdefault("DSRL_SUPPRESS_IMPORT_ERROR", "1")
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
        # dsrl makes its dataset folder when imported; one that exists keeps it from doing so.
        os.environ["DSRL_DATASET_DIR"] = chosen or os.path.dirname(os.path.abspath(__file__))
        try:
            module = import_module(f"dsrl.{package}.gym_envs")
        finally:
            if chosen is None:
                del os.environ["DSRL_DATASET_DIR"]
    if chosen is None:
        offline_environment = import_module("dsrl.offline_env")
        offline_environment.DATASET_PATH = os.path.expanduser("~/.dsrl/datasets")  # type: ignore[attr-defined]
    return module


def dsrl_constants(key: str) -> dict[str, Any]:
    """What the installed `dsrl` says about the task with this short key."""
    dsrl_environments("offline_bullet_safety_gym")
    infos: Any = import_module("dsrl.infos")
    return {
        "min_return": infos.MIN_EPISODE_REWARD[key],
        "max_return": infos.MAX_EPISODE_REWARD[key],
        "max_cost": infos.MAX_EPISODE_COST[key],
        "horizon": infos.DEFAULT_MAX_EPISODE_STEPS[key],
        "dataset_url": infos.DATASET_URLS[key],
    }
