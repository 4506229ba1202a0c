"""The web application behind `safesweep serve`: it reads a store and changes nothing.

Sweeps and runs are looked up in the tables by their names: no name of a request becomes a path.
"""

import hashlib
import json
import secrets
import shlex
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from urllib.parse import quote, urlencode

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from safesweep.analysis.page.content import (
    STATUSES,
    Content,
    comparison_content,
    run_content,
    sweep_content,
)
from safesweep.analysis.page.render import (
    ASSETS,
    REFRESH_SECONDS,
    asset,
    message_page,
    served_page,
)
from safesweep.analysis.selection.choice import choose
from safesweep.analysis.selection.rules import RULES
from safesweep.analysis.store.reader import ResultStore
from safesweep.search_spaces.validation import (
    InvalidInput,
    Problem,
    one_line,
    require_choice,
    without_secrets,
)
from safesweep.sweeps.execution.standing import duration
from safesweep.sweeps.execution.watching import SweepWatch, pause_after
from safesweep.trainables.store.heartbeats import condition
from safesweep.trainables.store.labels import Labels, read_labels
from safesweep.trainables.store.leases import sweep_state
from safesweep.trainables.store.schema import TABLES

FRESH_SECONDS = 2.0
"""For which an answer is kept at least; what took long to put together is kept for longer."""
TOKEN_COOKIE = "safesweep_token"
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")

_SECURITY_HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
        b"img-src 'self' data: blob:; connect-src 'self'; form-action 'self'; "
        b"base-uri 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-cache"),
)
_KEPT = 64
"""Answers that are kept for the next request."""


@dataclass
class _Answer:
    """Content as it was made, of which state of the store, and until when it counts as fresh."""

    state: str
    due: float
    body: bytes

    @property
    def tag(self) -> str:
        return f'"{hashlib.sha256(self.body).hexdigest()[:32]}"'


class StorePages:
    """What a store's pages say; each answer is put together once for each state of the store.

    Raises:
        InvalidInput: there is no store.
    """

    def __init__(self, storage: str) -> None:
        self.storage = storage
        self._store = ResultStore(storage)
        self._answers: dict[str, _Answer] = {}
        self._watches: dict[str, SweepWatch] = {}
        self._standings: dict[str, tuple[float, Content]] = {}
        self._lock = threading.Lock()

    def sweep_names(self) -> list[str]:
        """The sweeps that have a plan, the latest first."""
        with self._lock:
            plans = self._store.sweeps(["sweep", "created_at"])
        return list(plans.sort_values("created_at", ascending=False)["sweep"])

    def sweeps(self) -> _Answer:
        """The list of sweeps."""
        return self._answer("sweeps", self._list)

    def sweep(self, name: str, rule: str | None = None) -> _Answer:
        """One sweep, with what a rule chooses of it, by default that of `choose`."""
        return self._answer(f"sweep {rule or ''} {name}", lambda: self._sweep(name, rule))

    def comparison(self, names: list[str]) -> _Answer:
        """Several sweeps."""
        key = "comparison " + json.dumps(names)
        return self._answer(key, lambda: comparison_content(self._store, names))

    def run(self, run_id: str) -> _Answer:
        """One run."""
        return self._answer(f"run {run_id}", lambda: run_content(self._store, run_id))

    def status(self, name: str) -> Content:
        """How a sweep stands, with what its running trials say."""
        with self._lock:
            due, known = self._standings.get(name, (0.0, {}))
            if time.monotonic() < due:
                return known
            used = time.process_time()
            found = self._standing(name)
            took = time.process_time() - used
            due = time.monotonic() + pause_after(took, FRESH_SECONDS)
            self._standings[name] = (due, found)
            return found

    def _standing(self, name: str) -> Content:
        if name not in self._watches:
            self._watches[name] = SweepWatch(self._store, name, find_best=False)
        standing = self._watches[name].standing()
        drivers = {driver.token for driver in self._store.drivers()}
        beats = self._store.heartbeats() if standing.is_live else []
        counts = {
            status: sum(task.statuses[status] for task in standing.tasks) for status in STATUSES
        }
        return {
            "heading": standing.heading,
            "remark": standing.remark,
            "counts": counts,
            "planned": sum(task.planned for task in standing.tasks),
            "running": sum(task.running for task in standing.tasks),
            "tasks": [
                {
                    "method": task.algorithm,
                    "task": task.task,
                    "done": f"{task.done}/{task.planned}",
                    "running": task.running,
                    "failed": task.statuses["failed"],
                    "diverged": task.statuses["diverged"],
                    "steps_per_second": task.steps_per_second,
                    "left": None if task.seconds_left is None else duration(task.seconds_left),
                }
                for task in standing.tasks
            ],
            "trials": [
                {
                    **{name: beat[name] for name in ("algorithm", "task", "step", "steps", "host")},
                    "runs": len(beat["run_ids"]),
                    "rate": beat["rate"],
                    "condition": condition(beat, drivers),
                }
                for beat in beats
                if beat["sweep"] == name
            ],
        }

    def _answer(self, key: str, make: Callable[[], Content]) -> _Answer:
        with self._lock:
            known = self._answers.pop(key, None)
            if known is None or time.monotonic() >= known.due:
                state = self._store.state(TABLES)
                if known is not None and state == known.state:
                    known.due = time.monotonic() + FRESH_SECONDS
                else:
                    used = time.process_time()
                    ResultStore(self.storage)  # One that went away is no empty one.
                    body = json.dumps(make(), separators=(",", ":"), allow_nan=False).encode()
                    took = time.process_time() - used
                    due = time.monotonic() + pause_after(took, FRESH_SECONDS)
                    known = _Answer(state, due, body)
            self._answers[key] = known  # The one that was used last stands at the end.
            while len(self._answers) > _KEPT:
                del self._answers[next(iter(self._answers))]
            return known

    def _list(self) -> Content:
        states = self._store.run_states()
        statuses = dict(zip(states["run_id"], states["status"], strict=True))
        sweeps = []
        plans = self._store.sweeps().sort_values("created_at", ascending=False)
        drivers = self._store.drivers()
        beats = self._store.heartbeats() if drivers else []
        labels = read_labels(self._store)
        archived = [name for name, own in labels.items() if own.archived]
        plans = plans[~plans["sweep"].isin(archived)]
        for plan in plans.to_dict("records"):
            own = labels.get(str(plan["sweep"]), Labels())
            counts = dict.fromkeys(STATUSES, 0)
            for run_id in plan["run_ids"]:
                status = statuses.get(run_id)
                if status in counts:
                    counts[status] += 1
            sweeps.append(
                {
                    "sweep": str(plan["sweep"]),
                    "status": sweep_state(str(plan["sweep"]), str(plan["status"]), drivers, beats),
                    "created": f"{plan['created_at']:%Y-%m-%d %H:%M} UTC",
                    "runs": len(plan["run_ids"]),
                    "counts": counts,
                    "tags": list(own.tags),
                    "note": own.note,
                }
            )
        return {"kind": "sweeps", "storage": without_secrets(self.storage), "sweeps": sweeps}

    def _sweep(self, name: str, rule: str | None) -> Content:
        choice = choose(self._store, sweep=name, rule=rule)
        command = shlex.join(["safesweep", "report", name, "--rule", choice.rule])
        content = sweep_content(self._store, name, choice, choice.rule, command)
        return {**content, "rules": list(RULES)}

    def why_gone(self) -> str | None:
        """Why the store cannot be read at all; None where it can."""
        try:
            ResultStore(self.storage)
        except Problem as problem:
            return one_line(problem)
        return None


def make_app(
    storage: str,
    *,
    host_names: tuple[str, ...] = LOOPBACK_NAMES,
    token: str | None = None,
    refresh_seconds: float = REFRESH_SECONDS,
) -> ASGIApp:
    """The application for one store.

    Args:
        host_names: names under which it may be asked for, so that no foreign page can have a
            browser ask under a name of its own; empty for any.
        token: what a browser has to bring, once in the address and then as a cookie; None for
            nothing.
        refresh_seconds: between two times that an open page asks for what is new.

    Raises:
        InvalidInput: there is no store.
        StoreProblem: it cannot be read.
    """
    page = partial(served_page, refresh_seconds=refresh_seconds)
    pages = StorePages(storage)

    def served(name: str, make: Callable[[Request], Response]) -> Callable[[Request], Response]:
        """An endpoint that says what is wrong with a request, or with the store."""

        def endpoint(request: Request) -> Response:
            try:
                return make(request)
            except (Problem, OSError) as problem:
                gone = pages.why_gone()
                found = isinstance(problem, InvalidInput) and gone is None
                message = gone or one_line(problem)
                return _refusal(request, 404 if found else 503, message)

        endpoint.__name__ = name
        return endpoint

    def data(answer: Callable[[Request], _Answer]) -> Callable[[Request], Response]:
        def make(request: Request) -> Response:
            found = answer(request)
            headers = {"ETag": found.tag}
            if request.headers.get("if-none-match") == found.tag:
                return Response(status_code=304, headers=headers)
            return Response(found.body, media_type="application/json", headers=headers)

        return make

    def require_sweeps(names: Sequence[str]) -> None:
        known = pages.sweep_names()
        for name in names:
            if name not in known:
                place = without_secrets(storage)
                raise InvalidInput(f"sweep: {name!r} is not in the store {place!r}")

    def list_page(request: Request) -> Response:
        return HTMLResponse(page("Sweeps", "/data/sweeps", charts=False))

    def sweep_page(request: Request) -> Response:
        name = request.path_params["sweep"]
        require_sweeps([name])
        place = quote(name, safe="")
        rule = rule_of(request)
        asked = "" if rule is None else f"?{urlencode({'rule': rule})}"
        data_url = f"/data/sweep/{place}{asked}"
        return HTMLResponse(page(name, data_url, f"/data/status/{place}"))

    def run_page(request: Request) -> Response:
        name = request.path_params["run"]
        pages.run(name)  # So that one that is not there is said.
        return HTMLResponse(page(f"Run {name}", f"/data/run/{quote(name, safe='')}"))

    def comparison_page(request: Request) -> Response:
        names = request.query_params.getlist("sweep")
        if not names:
            raise InvalidInput("sweep: none is marked")
        require_sweeps(names)
        query = urlencode([("sweep", name) for name in names])
        return HTMLResponse(page("Comparison", f"/data/compare?{query}"))

    def asset_file(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in ASSETS:
            raise HTTPException(404)
        text = asset(name)
        headers = {"ETag": f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'}
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        return Response(text, media_type=ASSETS[name], headers=headers)

    endpoints: Mapping[str, Callable[[Request], Response]] = {
        "/": list_page,
        "/sweep/{sweep:path}": sweep_page,
        "/run/{run:path}": run_page,
        "/compare": comparison_page,
        "/data/sweeps": data(lambda request: pages.sweeps()),
        "/data/sweep/{sweep:path}": data(
            lambda request: pages.sweep(request.path_params["sweep"], rule_of(request))
        ),
        "/data/run/{run:path}": data(lambda request: pages.run(request.path_params["run"])),
        "/data/compare": data(
            lambda request: pages.comparison(request.query_params.getlist("sweep"))
        ),
        "/data/status/{sweep:path}": lambda request: JSONResponse(
            pages.status(request.path_params["sweep"])
        ),
        "/assets/{name}": asset_file,
    }
    app = Starlette(
        routes=[
            Route(path, served(path, endpoint), methods=["GET"])
            for path, endpoint in endpoints.items()
        ],
        exception_handlers={HTTPException: _not_found},
    )
    return _Guard(app, host_names, token)


def rule_of(request: Request) -> str | None:
    """The selection rule that a request asks for; None where it asks for none.

    Raises:
        InvalidInput: there is no such rule.
    """
    rule = request.query_params.get("rule")
    return None if rule is None else str(require_choice("rule", rule, RULES))


def _refusal(request: Request, status: int, message: str) -> Response:
    """What is wrong, as the asker takes it: JSON for a page's script, else a page."""
    if request.url.path.startswith("/data/"):
        return JSONResponse({"problem": message}, status_code=status)
    title = "Not here" if status == 404 else "The store cannot be read"
    return HTMLResponse(message_page(title, message), status_code=status)


def _not_found(request: Request, problem: Exception) -> Response:
    status = problem.status_code if isinstance(problem, HTTPException) else 500
    message = "There is no such page." if status == 404 else "That is not allowed here."
    return _refusal(request, status, message)


class _Guard:
    """Lets through whom the server is for, and has browsers keep to this server."""

    def __init__(self, app: ASGIApp, host_names: tuple[str, ...], token: str | None) -> None:
        self._app, self._names, self._token = app, host_names, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *_SECURITY_HEADERS]}
            await send(message)

        refuse = self._refusal(scope)
        handler: ASGIApp | Callable[..., Awaitable[None]] = refuse or self._app
        await handler(scope, receive, guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        host = Headers(scope=scope).get("host", "")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
        if self._names and name not in self._names:
            page = message_page("Refused", "This server is asked for under a name that it has not.")
            return HTMLResponse(page, status_code=403)
        if self._token is None:
            return None
        request = Request(scope)
        given = request.query_params.get("token")
        if given is not None and secrets.compare_digest(given.encode(), self._token.encode()):
            kept = [(k, v) for k, v in request.query_params.multi_items() if k != "token"]
            # Of several slashes at the beginning a browser would take the next word for a host.
            target = quote("/" + scope["path"].lstrip("/\\"))
            target += f"?{urlencode(kept)}" if kept else ""
            response = RedirectResponse(target, status_code=303)
            response.set_cookie(TOKEN_COOKIE, self._token, httponly=True, samesite="strict")
            return response
        kept_token = request.cookies.get(TOKEN_COOKIE, "")
        if secrets.compare_digest(kept_token.encode(), self._token.encode()):
            return None
        message = "A token is needed: open the address that `safesweep serve` printed."
        return _refusal(request, 401, message)
