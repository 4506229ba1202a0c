import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from safesweep.analysis.selection.choice import choose
from safesweep.analysis.store.reader import ResultStore
from safesweep.search_spaces.validation import InvalidInput
from safesweep.sweeps.execution import watching as watching_module
from safesweep.sweeps.serving import app as app_module
from safesweep.sweeps.serving.app import TOKEN_COOKIE, make_app
from safesweep.trainables.store.labels import note_sweep, tag_sweep
from safesweep.trainables.store.leases import Lease
from safesweep.trainables.store.writer import ResultWriter, heartbeat_path
from tests.conftest import WriteSweep

HERE = "http://127.0.0.1:8600"
SPECIAL = "a<b"


def client_of(storage: Path, **options: Any) -> TestClient:
    return TestClient(make_app(str(storage), **options), base_url=HERE, follow_redirects=False)


@pytest.fixture
def storage(write_sweep: WriteSweep, tmp_path: Path) -> Path:
    levels = [{"feasibility_expectile": level} for level in (0.6, 0.9)]
    write_sweep("first", levels)
    write_sweep(SPECIAL, statuses={1: "failed"}, task="OfflineCarRun-v0")
    return tmp_path / "store"


@pytest.fixture
def client(storage: Path) -> TestClient:
    return client_of(storage)


def test_the_list_of_sweeps(client: TestClient) -> None:
    assert client.get("/").status_code == 200
    found = client.get("/data/sweeps").json()["sweeps"]
    counts = {sweep["sweep"]: (sweep["runs"], sweep["counts"]["completed"]) for sweep in found}
    assert counts == {"first": (6, 6), SPECIAL: (3, 2)}
    assert [(sweep["tags"], sweep["note"]) for sweep in found] == [([], "")] * 2


def test_what_is_noted_down_of_a_sweep_is_shown(client: TestClient, storage: Path) -> None:
    tag_sweep(str(storage), "first", ["night", "paper"])
    note_sweep(str(storage), "first", "before the new limit")
    listed = {sweep["sweep"]: sweep for sweep in client.get("/data/sweeps").json()["sweeps"]}
    for found in (listed["first"], client.get("/data/sweep/first").json()):
        assert found["tags"] == ["night", "paper"] and found["note"] == "before the new limit"
    assert listed[SPECIAL]["tags"] == []


def test_a_sweep_says_what_the_store_holds(client: TestClient, storage: Path) -> None:
    assert 'data-url="/data/sweep/first"' in client.get("/sweep/first").text
    asked = client.get("/sweep/first?rule=min_cost").text
    assert 'data-url="/data/sweep/first?rule=min_cost"' in asked
    found = client.get("/data/sweep/first").json()
    assert found["rule"] == "max_reward_safe"
    (chosen,) = choose(ResultStore(storage), sweep="first").chosen.to_dict("records")
    assert found["choices"][0]["config_id"] == chosen["config_id"]
    (group,) = found["groups"]
    assert group["hyperparameters"]["feasibility_expectile"]["values"] == [0.6, 0.9]
    assert group["reward"] == pytest.approx([0.61, 0.91])
    assert group["cost"] == pytest.approx([0.35, 0.95])
    assert group["chosen"] == [False, True] and group["front"] == [True, True]
    assert [[seed for seed, _ in runs] for runs in group["runs"]] == [[0, 1, 2]] * 2
    status = client.get("/data/status/first").json()
    assert (status["planned"], status["counts"]["completed"]) == (6, 6)
    (task,) = status["tasks"]
    assert (task["method"], task["done"], task["left"]) == ("flrp", "6/6", None)


def test_a_sweep_that_runs_says_what_its_trials_do(storage: Path) -> None:
    writer = ResultWriter(str(storage), "first")
    beat = {"trial_id": "t", "sweep": "first", "algorithm": "flrp", "task": "OfflineBallRun-v0",
            "run_ids": ["open-0", "open-1"], "step": 500, "steps": 2000, "seconds": 10.0,
            "host": "<node>", "time": "2026-01-01T00:00:00+00:00"}  # fmt: skip
    writer.write_bytes(heartbeat_path("t"), json.dumps(beat).encode())
    plan = "name: first\nalgorithm: flrp\ntasks: [OfflineBallRun-v0]\nsteps: 2000\n"
    writer.write_sweep(plan, ["open-0", "open-1"], "running")
    lease = Lease(writer)
    lease.acquire()
    try:
        status = client_of(storage).get("/data/status/first").json()
    finally:
        lease.release()
    (trial,) = status["trials"]
    assert (trial["runs"], trial["step"], trial["host"]) == (2, 500, "<node>")
    assert status["running"] == 2 and status["heading"].startswith("first: running, 0/2 runs")


def test_another_rule_may_choose(client: TestClient, storage: Path) -> None:
    page = client.get("/sweep/first?rule=min_cost").text
    assert 'data-url="/data/sweep/first?rule=min_cost"' in page
    found = client.get("/data/sweep/first?rule=min_cost").json()
    assert found["groups"][0]["chosen"] == [True, False]
    assert found["command"] == "safesweep report first --rule min_cost"
    assert client.get("/data/sweep/first?rule=best").status_code == 404


def test_a_run_and_why_it_failed(full_store: Path) -> None:
    client = client_of(full_store)
    failed = ResultStore(full_store).runs(status="failed", sweep="troubled")["run_id"].iloc[0]
    found = client.get(f"/data/run/{failed}").json()
    assert client.get(f"/run/{failed}").status_code == 200
    assert found["facts"]["error"] == "the simulator gave up" and found["curves"] == []
    done = ResultStore(full_store).runs(status="completed", sweep="methods")["run_id"].iloc[0]
    found = client.get(f"/data/run/{done}").json()
    assert found["curves"] and found["metrics"]
    episodes = ResultStore(full_store).episodes(run_id=done)
    episodes = episodes[episodes["step"] == episodes["step"].max()]
    costs = {policy: rows["cost_return"] for policy, rows in episodes.groupby("policy")}
    assert [part["policy"] for part in found["episode_costs"]] == list(costs)
    for part in found["episode_costs"]:
        assert sum(part["episodes"]) == len(costs[part["policy"]])
        assert part["from"][0] == pytest.approx(episodes["cost_return"].min(), abs=0.5)


def test_sweeps_beside_each_other(client: TestClient) -> None:
    query = {"sweep": ["first", SPECIAL]}
    assert client.get("/compare", params=query).status_code == 200
    found = client.get("/data/compare", params=query).json()
    assert [part["sweep"] for part in found["parts"]] == ["first", SPECIAL]


def test_names_and_errors_are_text(client: TestClient) -> None:
    page = client.get("/sweep/a%3Cb").text
    assert "a<b" not in page and "a&lt;b" in page
    refused = client.get("/sweep/%3Cscript%3E")
    assert refused.status_code == 404 and "<script>" not in refused.text
    assert "&lt;script&gt;" in refused.text


@pytest.mark.parametrize(
    "path",
    ["/nothing", "/sweep/frist", "/run/0000", "/compare", "/compare?sweep=frist",
     "/sweep/..%2F..%2Fetc%2Fpasswd", "/run/..%2F..%2F..%2Fetc%2Fpasswd",
     "/assets/..%2Frender.py", "/assets/render.py", "/data/sweep/frist", "/data/status/frist",
     "/data/run/..%2Fleases%2Ffirst.json"],
)  # fmt: skip
def test_what_is_not_there_or_lies_outside_is_refused(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert "root:" not in answer.text and "Traceback" not in answer.text


def test_the_store_is_only_read(client: TestClient, storage: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in storage.rglob("*")}
    for path in ("/data/sweeps", "/data/sweep/first", "/data/status/first"):
        assert client.get(path).status_code == 200
        assert client.post(path).status_code == 405
    assert {path: path.stat().st_mtime_ns for path in storage.rglob("*")} == before


def test_an_answer_is_made_once_for_each_state_of_the_store(
    client: TestClient, write_sweep: WriteSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app_module, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr(watching_module, "SHARE_OF_A_CORE", 1e9)
    first = client.get("/data/sweeps")
    tag = {"If-None-Match": first.headers["ETag"]}
    assert client.get("/data/sweeps", headers=tag).status_code == 304
    write_sweep("third")
    again = client.get("/data/sweeps", headers=tag)
    assert again.status_code == 200 and "third" in again.text


def test_a_store_that_goes_away_and_comes_back(
    client: TestClient, storage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app_module, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr(watching_module, "SHARE_OF_A_CORE", 1e9)
    assert client.get("/data/sweep/first").status_code == 200
    shutil.move(storage, tmp_path / "elsewhere")
    for path in ("/data/sweep/first", "/data/status/first", "/sweep/first", "/data/sweeps"):
        answer = client.get(path)
        assert answer.status_code == 503 and "there is no result store" in answer.text
    shutil.move(tmp_path / "elsewhere", storage)
    assert client.get("/data/sweep/first").status_code == 200
    with pytest.raises(InvalidInput, match="no result store"):
        make_app(str(tmp_path / "nowhere"))


def test_who_is_not_of_this_machine_brings_a_token(storage: Path) -> None:
    client = client_of(storage, host_names=(), token="secret-token")
    for path in ("/", "/data/sweeps", "/assets/page.js", "/sweep/first"):
        assert client.get(path).status_code == 401
        assert client.get(path, params={"token": "other"}).status_code == 401
    answer = client.get("/sweep/first", params={"token": "secret-token"})
    assert answer.status_code == 303 and answer.headers["location"] == "/sweep/first"
    assert "httponly" in answer.headers["set-cookie"].lower()
    assert client.cookies[TOKEN_COOKIE] == "secret-token"
    assert client.get("/data/sweeps").status_code == 200
    other = client.get(HERE + "//elsewhere.example/x", params={"token": "secret-token"})
    assert other.headers["location"].startswith("/e")


def test_a_browser_cannot_be_made_to_ask_under_another_name(client: TestClient) -> None:
    assert client.get("/", headers={"Host": "elsewhere.example"}).status_code == 403
    assert client.get("/", headers={"Host": "localhost:8600"}).status_code == 200


def test_pages_fetch_nothing_from_elsewhere(client: TestClient) -> None:
    answer = client.get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src 'self';" in policy
    assert "plotly" not in answer.text  # a list draws no charts
    answer = client.get("/sweep/first")
    for name in ("page.js", "page.css", "plotly.js"):
        assert f"/assets/{name}" in answer.text
        assert client.get(f"/assets/{name}").status_code == 200
