import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safesweep.analysis.store.reader import ResultStore
from safesweep.sweeps.cli import main
from safesweep.trainables.store.heartbeats import parse_heartbeat, sweep_of
from tests.quick import slow_but

BEAT = {
    "trial_id": "abc", "sweep": "first", "task": "BallRun", "run_ids": ["a-0"], "step": 5,
    "steps": 10,
}  # fmt: skip

MALFORMED = {
    "empty": b"",
    "cut": json.dumps(BEAT).encode()[:-5],
    "no JSON": b"\xff\x00PAR1",
    "a list": b"[]",
    "deep": b"[" * 100_000,
    "no sweep": json.dumps({**BEAT, "sweep": None}).encode(),
    "text for a step": json.dumps({**BEAT, "step": "5"}).encode(),
    "a huge step": json.dumps({**BEAT, "step": 10**400}).encode(),
    "an endless time": json.dumps({**BEAT, "seconds": float("inf")}).encode(),
    "runs without names": json.dumps({**BEAT, "run_ids": [1]}).encode(),
    "too long": json.dumps({**BEAT, "host": "x" * 2**23}).encode(),
}


def test_what_is_not_said_has_a_value_of_its_kind() -> None:
    beat = parse_heartbeat(json.dumps(BEAT).encode())
    assert {**beat, **BEAT} == beat
    assert (beat["algorithm"], beat["seconds"], beat["waiting"]) == ("", 0.0, False)


@pytest.mark.parametrize("name", slow_but(("cut", "a list", "a huge step"), MALFORMED))
def test_a_malformed_heartbeat_is_named_and_stops_no_command(
    write_sweep, tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    write_sweep("first")
    folder = tmp_path / "store/heartbeats"
    folder.mkdir(exist_ok=True)
    (folder / "bad.json").write_bytes(MALFORMED[name])
    (folder / "good.json").write_bytes(json.dumps(BEAT).encode())
    store = ResultStore(tmp_path / "store")
    assert [beat["trial_id"] for beat in store.heartbeats()] == ["abc"]
    assert str(folder / "bad.json") in caplog.text
    assert len(caplog.messages) == 1
    assert main(["show", "first", "--storage", str(tmp_path / "store")]) == 0
    assert "step 5 of 10" in capfd.readouterr().err


@given(st.binary(max_size=200))
def test_any_bytes_are_a_record_or_refused(content: bytes) -> None:
    with pytest.raises(ValueError):
        parse_heartbeat(content)
    assert sweep_of(content) is None or isinstance(sweep_of(content), str)


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(name=st.sampled_from(sorted(BEAT)), value=_JSON)
def test_a_field_of_any_value_is_of_its_kind_or_refused(name: str, value: object) -> None:
    try:
        beat = parse_heartbeat(json.dumps({**BEAT, name: value}).encode())
    except ValueError:
        return
    assert isinstance(beat[name], type(BEAT[name]))
