"""What comes from outside: methods with their spaces, suites, rules, ablations and observers.

A plugin is a module that holds any of the dictionaries below, of the shape of the product's own. It
is installed (an entry point of the group `safesweep.plugins`, loaded by itself), or named when it
is wanted: a module that can be imported, or one file by itself, whose text goes along to wherever
runs are trained. A YAML file is a plugin too: it describes one task.

Dictionaries are extended where they are defined: each says so with `extended_by_plugins`, and takes
what is loaded before and after, so that nobody imports more than is used.
"""

import hashlib
import linecache
import re
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from safesweep.search_spaces.validation import (
    InvalidInput,
    expanded,
    listed,
    shown,
)

DICTIONARIES = ("ALGORITHMS", "SEARCH_SPACES", "SUITES", "RULES", "ABLATIONS", "OBSERVERS")
_SINGULAR = dict(
    zip(
        DICTIONARIES,
        ("algorithm", "search space", "suite", "rule", "ablation", "observer"),
        strict=True,
    )
)
GROUP = "safesweep.plugins"
"""The group of entry points by which installed packages are plugins."""

_PYTHON, _TASK_FILES = (".py",), (".yaml", ".yml")

Entries = Mapping[str, Mapping[str, Any]]
"""What a plugin holds: dictionary -> name -> object."""

Accept = Callable[[str, Any, Entries], Any]
"""(name, object, everything that its plugin holds) -> what goes into the dictionary.

Raises InvalidInput where the object is not what the dictionary holds."""


class PluginSource(NamedTuple):
    """How a plugin travels: its name, and its text where it is one file."""

    name: str
    text: str | None = None


@dataclass(frozen=True, eq=False)
class Plugin:
    """A plugin that is loaded.

    Attributes:
        source: as it was asked for.
        key: the same for the same plugin.
        entries: what it holds.
        installed: whether it was loaded by itself, as everywhere where it is installed.
    """

    source: PluginSource
    key: str
    entries: Entries
    installed: bool


@dataclass(frozen=True, eq=False)
class _Registry:
    entries: dict[str, Any]
    accept: Accept
    changed: Callable[[], None]


_REGISTRIES: dict[str, _Registry] = {}
_PLUGINS: list[Plugin] = []
# Not held while a plugin is imported: it may import what another thread is importing, which waits
# here.
_LOCK = threading.RLock()
_installed_loaded = False


def extended_by_plugins(
    dictionary: str,
    entries: dict[str, Any],
    accept: Accept,
    changed: Callable[[], None] = lambda: None,
) -> None:
    """Let plugins extend a dictionary of the product, those loaded before and later ones.

    Args:
        dictionary: its name, one of DICTIONARIES.
        changed: called after each extension.

    Raises:
        InvalidInput: a plugin that is loaded does not fit.
    """
    with _LOCK:
        registry = _REGISTRIES[dictionary] = _Registry(entries, accept, changed)
        for plugin in _PLUGINS:
            entries.update(_additions(plugin, dictionary, registry))
        changed()


def load_plugin(name: str, text: str | None = None) -> Plugin:
    """Load a plugin, once: the same one again is the one that is there.

    Args:
        name: a module, a Python file, or a YAML file with a task.
        text: of the file, where it is not to be read here.

    Raises:
        InvalidInput: one line: there is none, it does not import, holds none of DICTIONARIES or
            something else in one of them, or a name that is taken.
    """
    load_installed_plugins()
    return _load(PluginSource(name, text))


def load_plugins(plugins: Iterable[str | PluginSource]) -> None:
    """Load what is installed, and several that are given by name or as `plugin_sources` gives them;
    see `load_plugin`."""
    load_installed_plugins()
    for plugin in plugins:
        load_plugin(*([plugin] if isinstance(plugin, str) else plugin))


def is_extended(dictionary: str) -> bool:
    """Whether a plugin that is loaded holds something for a dictionary of the product."""
    return any(plugin.entries.get(dictionary) for plugin in _PLUGINS)


def plugin_sources() -> tuple[PluginSource, ...]:
    """What another process has to load to know what this one does: all but what is installed."""
    return tuple(plugin.source for plugin in _PLUGINS if not plugin.installed)


def source_of(dictionary: str, name: str) -> str | None:
    """The source of the plugin that supplies a name; None where the product itself does, or nobody.

    Of an installed package it is that of all its modules.
    """
    plugin = next((p for p in _PLUGINS if name in p.entries.get(dictionary, ())), None)
    if plugin is None:
        return None
    if plugin.source.text is not None:
        return plugin.source.text
    package = sys.modules[plugin.source.name.partition(".")[0]]
    roots = [Path(place) for place in getattr(package, "__path__", ())]
    files = sorted(file for root in roots for file in root.rglob("*.py"))
    file = getattr(package, "__file__", None)
    if not files and file is not None:
        files = [Path(file)]
    return "\0".join(path.read_text(encoding="utf-8", errors="replace") for path in files)


@contextmanager
def plugins_forgotten_after() -> Iterator[None]:
    """What is loaded within is forgotten at its end."""
    with _LOCK:
        plugins = list(_PLUGINS)
        entries = {name: dict(registry.entries) for name, registry in _REGISTRIES.items()}
    try:
        yield
    finally:
        with _LOCK:
            later = {plugin.key: plugin for plugin in _PLUGINS if plugin not in plugins}
            _PLUGINS[:] = plugins
            for dictionary, registry in _REGISTRIES.items():
                theirs = {n for p in later.values() for n in p.entries.get(dictionary, ())}
                for name in theirs - entries.get(dictionary, {}).keys():
                    registry.entries.pop(name, None)
                registry.changed()


def load_installed_plugins() -> None:
    """Load the plugins of installed packages, once: when something is looked up and not when a
    dictionary is imported, in the midst of which a plugin could not import what it builds on.

    Raises:
        InvalidInput: one does not fit; names the package.
    """
    global _installed_loaded
    if _installed_loaded:
        return
    _installed_loaded = True
    for entry in entry_points(group=GROUP):
        try:
            _load(PluginSource(entry.value), installed=True)
        except InvalidInput as problem:
            _installed_loaded = False  # Whoever tries again is told again.
            package = entry.dist.name if entry.dist else "a package"
            raise InvalidInput(
                f"{problem} ({package} installs it; mend or uninstall it)"
            ) from problem


def _load(source: PluginSource, installed: bool = False) -> Plugin:
    suffix = Path(source.name).suffix
    if suffix in _PYTHON + _TASK_FILES or "/" in source.name:
        source = PluginSource(source.name, _text_of(source))
        assert source.text is not None
        digest = hashlib.sha256(source.text.encode()).hexdigest()[:8]
        key = f"safesweep_plugin_{re.sub(r'[^A-Za-z0-9]', '_', Path(source.name).stem)}_{digest}"
    else:
        source, key = PluginSource(source.name), source.name
    known = next((plugin for plugin in _PLUGINS if plugin.key == key), None)
    if known is not None:
        return known
    if suffix in _TASK_FILES:
        entries = _task_entries(source)
    else:
        entries = _dictionaries_of(source.name, _imported(source, key))
    plugin = Plugin(source, key, entries, installed)
    with _LOCK:
        _require_new_names(plugin)
        additions = {
            name: _additions(plugin, name, registry) for name, registry in _REGISTRIES.items()
        }
        _PLUGINS.append(plugin)
        for name, registry in _REGISTRIES.items():
            registry.entries.update(additions[name])
            if additions[name]:
                registry.changed()
    return plugin


def _text_of(source: PluginSource) -> str:
    if source.text is not None:
        return source.text
    if Path(source.name).suffix not in _PYTHON + _TASK_FILES:
        raise InvalidInput(
            f"plugin: {shown(source.name)} is not allowed; it must be a module, a .py file or a "
            ".yaml file with a task"
        )
    try:
        return expanded(source.name).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InvalidInput(f"plugin: there is no file {shown(source.name)}") from None
    except (OSError, UnicodeDecodeError) as problem:
        reason = getattr(problem, "strerror", None) or "it is not UTF-8 text"
        raise InvalidInput(f"plugin: cannot read {shown(source.name)}: {reason}") from None


def _imported(source: PluginSource, key: str) -> ModuleType:
    """The module of a plugin.

    Raises:
        InvalidInput: it does not import; says why, and where in a file.
    """
    try:
        if source.text is None:
            return import_module(source.name)
        return _executed(source.name, source.text, key)
    except (Exception, SystemExit) as problem:
        if isinstance(problem, ModuleNotFoundError) and problem.name == source.name:
            raise InvalidInput(
                f"plugin: there is no module {shown(source.name)} (a file is given with .py)"
            ) from None
        place, reason = _place(problem, source.name), _reason(problem)
        raise InvalidInput(f"plugin {source.name}{place}: does not import: {reason}") from problem


def _place(problem: BaseException, file: str | None) -> str:
    """The line of a file that was last reached before the problem, in words; empty without one."""
    frames = traceback.extract_tb(problem.__traceback__)
    return next((f", line {f.lineno}" for f in frames[::-1] if f.filename == file), "")


def _reason(problem: BaseException) -> str:
    """What is wrong, in a line; with the kind of the problem where it was not meant for a user."""
    lines = str(problem).strip().splitlines()
    reason = lines[0] if lines else ""
    if isinstance(problem, InvalidInput):
        return reason
    return f"{type(problem).__name__}: {reason}" if reason else type(problem).__name__


def fault(dictionary: str, name: str, wrong: BaseException | str) -> InvalidInput:
    """One line on something from outside that does not do what it should.

    Args:
        dictionary: one of DICTIONARIES.
        name: under which it is there.
        wrong: what it raised, or what is wrong with what it returned.
    """
    what = f"{_SINGULAR[dictionary]} {shown(name)}"
    holds = (p for p in _PLUGINS if name in p.entries.get(dictionary, ()))
    plugin = next(holds, None)
    if plugin is not None:
        what += f" of the plugin {plugin.source.name}"
    if isinstance(wrong, str):
        return InvalidInput(" ".join(f"{what}: {wrong}".split()))
    file = None
    if plugin is not None:
        source = plugin.source
        module = None if source.text is not None else sys.modules.get(source.name)
        file = source.name if module is None else module.__file__
    return InvalidInput(f"{what}{_place(wrong, file)}: {_reason(wrong)}")


def _executed(path: str, text: str, name: str) -> ModuleType:
    """A file as a module, which need not be here: what it defines can be pickled wherever it is
    loaded, and tracebacks show its lines."""
    module = ModuleType(name)
    module.__file__ = path
    linecache.cache[path] = (len(text), None, text.splitlines(keepends=True), path)
    sys.modules[name] = module
    try:
        exec(compile(text, path, "exec"), module.__dict__)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _dictionaries_of(name: str, module: ModuleType) -> Entries:
    found: dict[str, Mapping[str, Any]] = {}
    for dictionary in DICTIONARIES:
        content = getattr(module, dictionary, None)
        registry = _REGISTRIES.get(dictionary)
        if content is None or (registry is not None and content is registry.entries):
            continue  # The product's own, which the module looks at.
        if not isinstance(content, Mapping):
            raise InvalidInput(
                f"plugin {name}: {dictionary} must be a dictionary of names, not {shown(content)}"
            )
        for key in content:
            if not isinstance(key, str) or not key:
                raise InvalidInput(f"plugin {name}: {dictionary} has the key {shown(key)}, no name")
        found[dictionary] = dict(content)
    if not any(found.values()):
        raise InvalidInput(
            f"plugin {name}: holds none of the dictionaries {', '.join(DICTIONARIES)}"
        )
    lacking = sorted(found.get("ALGORITHMS", {}).keys() - found.get("SEARCH_SPACES", {}).keys())
    if lacking:
        raise InvalidInput(
            f"plugin {name}: SEARCH_SPACES lacks {listed(lacking)} of ALGORITHMS; a method needs "
            "its search space"
        )
    return found


def _task_entries(source: PluginSource) -> Entries:
    """A task's file: the suites' dictionary makes a suite of its content."""
    import yaml

    try:
        content = yaml.safe_load(source.text or "")
    except (yaml.YAMLError, ValueError) as problem:
        reason = getattr(problem, "problem", None) or str(problem).splitlines()[0]
        mark = getattr(problem, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        raise InvalidInput(f"plugin {source.name}{place}: not valid YAML: {reason}") from None
    if not isinstance(content, dict) or not isinstance(content.get("name"), str):
        raise InvalidInput(f"plugin {source.name}: must hold a task's keys and values, with a name")
    return {"SUITES": {content["name"]: {**content, "file": source.name}}}


def _require_new_names(plugin: Plugin) -> None:
    for other in _PLUGINS:
        for dictionary, entries in plugin.entries.items():
            both = sorted(entries.keys() & other.entries.get(dictionary, {}).keys())
            if both:
                raise InvalidInput(
                    f"plugin {plugin.source.name}: {dictionary} holds {shown(both[0])}, which the "
                    f"plugin {other.source.name} holds too; rename one"
                )


def _additions(plugin: Plugin, dictionary: str, registry: _Registry) -> dict[str, Any]:
    """What a plugin adds to a dictionary of the product."""
    accepted: dict[str, Any] = {}
    for name, value in plugin.entries.get(dictionary, {}).items():
        if name in registry.entries:
            raise InvalidInput(
                f"plugin {plugin.source.name}: {dictionary} holds {shown(name)}, which safesweep "
                "holds too; rename it"
            )
        try:
            accepted[name] = registry.accept(name, value, plugin.entries)
        except InvalidInput as problem:
            raise InvalidInput(
                f"plugin {plugin.source.name}: {dictionary}[{shown(name)}]: {problem}"
            ) from problem
    return accepted
