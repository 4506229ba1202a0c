import hashlib
import re
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from safesweep.search_spaces.validation import InvalidInput
from safesweep.trainables.data.dataset import read_dataset, write_dataset
from safesweep.trainables.data.fetch import FetchFailed, fetch_dataset
from safesweep.trainables.tasks.registry import get_task

EPISODES = 12
LENGTHS = (100,) * EPISODES


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """The bytes of a valid BallRun file with 12 episodes."""
    steps = sum(LENGTHS)
    generator = np.random.default_rng(0)
    observations = generator.normal(size=(steps, 7)).astype(np.float32)
    timeouts = np.zeros(steps, bool)
    timeouts[np.cumsum(LENGTHS) - 1] = True
    path = write_dataset(
        tmp_path_factory.mktemp("served") / "file.hdf5",
        {
            "observations": observations,
            "next_observations": np.roll(observations, -1, axis=0),
            "actions": generator.uniform(-1, 1, (steps, 2)),
            "rewards": generator.normal(size=steps),
            "costs": np.zeros(steps),
            "terminals": np.zeros(steps, bool),
            "timeouts": timeouts,
        },
        {},
    )
    return path.read_bytes()


class Mirror:
    """A loopback server that serves `content` and remembers the ranges it was asked for."""

    def __init__(self, content):
        self.content = content
        self.ranges = []
        self.honours_ranges = True
        self.breaks_off_after = None
        self.status = None
        self.version = None
        self.versions_asked = []
        self.redirect = None
        mirror = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                mirror.answer(self)

            def log_message(self, format, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_port}"
        self.url = f"http://{self.host}/file.hdf5"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def answer(self, request):
        asked = request.headers.get("Range")
        self.ranges.append(asked)
        if self.status is not None:
            request.send_error(self.status)
            return
        if self.redirect is not None:
            request.send_response(302)
            request.send_header("Location", self.redirect)
            request.end_headers()
            return
        start = 0
        self.versions_asked.append(request.headers.get("If-Range"))
        same = self.versions_asked[-1] in (None, self.version)
        if asked and self.honours_ranges and same:
            start = int(re.fullmatch(r"bytes=(\d+)-", asked).group(1))
            if start >= len(self.content):
                request.send_response(416)
                request.send_header("Content-Range", f"bytes */{len(self.content)}")
                request.end_headers()
                return
            request.send_response(206)
            last = len(self.content) - 1
            request.send_header("Content-Range", f"bytes {start}-{last}/{len(self.content)}")
        else:
            request.send_response(200)
        if self.version is not None:
            request.send_header("ETag", self.version)
        body = self.content[start:]
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body[: self.breaks_off_after])

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def mirrors(content):
    both = [Mirror(content), Mirror(content)]
    yield both
    for mirror in both:
        mirror.close()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SAFESWEEP_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path


def ball_run(*mirrors, trajectories=EPISODES):
    urls = tuple(mirror.url for mirror in mirrors)
    return replace(get_task("BallRun"), dataset_urls=urls, trajectories=trajectories)


def test_first_mirror_is_enough(mirrors, cache, content):
    seen = []
    path = fetch_dataset(ball_run(*mirrors), lambda done, total: seen.append((done, total)))
    assert path == cache / "SafetyBallRun-v0-80-940.hdf5"
    assert path.read_bytes() == content
    assert mirrors[0].ranges == [None]
    assert mirrors[1].ranges == []
    assert seen[-1] == (len(content), len(content))
    assert len(read_dataset(path, "BallRun").episode_ends) == 12
    assert sorted(cache.iterdir()) == [path, path.with_name(f"{path.name}.sha256")]


def test_next_mirror_is_tried(mirrors, cache, content):
    mirrors[0].status = 404
    path = fetch_dataset(ball_run(*mirrors))
    assert path.read_bytes() == content
    assert len(mirrors[1].ranges) == 1


def test_download_that_broke_off_is_continued(mirrors, cache, content):
    task = ball_run(mirrors[0])
    mirrors[0].breaks_off_after = 10_000
    with pytest.raises(FetchFailed, match=rf"{mirrors[0].host} .*10000 of {len(content)} bytes"):
        fetch_dataset(task)
    assert not (cache / str(task.dataset_file)).exists()
    mirrors[0].breaks_off_after = None
    seen = []
    path = fetch_dataset(task, lambda done, total: seen.append((done, total)))
    assert mirrors[0].ranges == [None, "bytes=10000-"]
    assert path.read_bytes() == content
    assert seen[-1] == (len(content), len(content))
    assert sorted(cache.iterdir()) == [path, path.with_name(f"{path.name}.sha256")]


def test_mirror_that_ignores_ranges_starts_again(mirrors, cache, content):
    task = ball_run(mirrors[0])
    mirrors[0].breaks_off_after = 10_000
    with pytest.raises(FetchFailed):
        fetch_dataset(task)
    mirrors[0].breaks_off_after = None
    mirrors[0].honours_ranges = False
    assert fetch_dataset(task).read_bytes() == content


def test_partial_file_that_is_complete_is_used(mirrors, cache, content):
    task = ball_run(mirrors[0])
    name = f".{task.dataset_file}.{mirrors[0].host.replace(':', '-')}.partial"
    (cache / name).write_bytes(content)
    assert fetch_dataset(task).read_bytes() == content
    assert mirrors[0].ranges == [f"bytes={len(content)}-"]


def test_partial_file_longer_than_the_remote_one_is_dropped(mirrors, cache, content):
    task = ball_run(mirrors[0])
    name = f".{task.dataset_file}.{mirrors[0].host.replace(':', '-')}.partial"
    (cache / name).write_bytes(content + b"more")
    assert fetch_dataset(task).read_bytes() == content
    assert mirrors[0].ranges == [f"bytes={len(content) + 4}-", None]


def test_file_with_another_number_of_episodes_is_rejected(mirrors, cache):
    with pytest.raises(FetchFailed, match="has 12 episodes instead of 940"):
        fetch_dataset(ball_run(mirrors[0], trajectories=940))
    assert not list(cache.iterdir())


def test_page_in_place_of_the_file_is_rejected(mirrors, cache, content):
    mirrors[0].content = b"<html>Please log in</html>"
    assert fetch_dataset(ball_run(*mirrors)).read_bytes() == content
    with pytest.raises(FetchFailed, match="is not an HDF5 file"):
        fetch_dataset(replace(ball_run(mirrors[0]), dataset_file="other.hdf5"))


def test_failure_says_what_was_tried_and_what_to_do(mirrors, cache):
    mirrors[0].status, mirrors[1].status = 404, 503
    with pytest.raises(FetchFailed) as caught:
        fetch_dataset(ball_run(*mirrors))
    message = str(caught.value)
    assert f"{mirrors[0].host} (HTTP 404), {mirrors[1].host} (HTTP 503)" in message
    assert "safesweep data collect OfflineBallRun-v0" in message
    assert "dataset: path.hdf5" in message
    assert "\n" not in message


def test_host_that_refuses_is_named(mirrors, cache):
    mirrors[0].close()
    with pytest.raises(FetchFailed, match=rf"{mirrors[0].host} \(Connection refused\)"):
        fetch_dataset(ball_run(mirrors[0]))


def test_boats_have_nothing_to_fetch(cache):
    with pytest.raises(FetchFailed, match="safesweep data collect BoatNavigation-v0"):
        fetch_dataset("BoatNavigation")


def test_cache_folder_that_cannot_be_made_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SAFESWEEP_DATA_DIR", str(tmp_path / "file" / "cache"))
    with pytest.raises(InvalidInput, match=r"cache: .*cannot be made"):
        fetch_dataset("BallRun")


def test_a_file_that_changed_while_a_download_was_broken_off_is_fetched_anew(
    mirrors, cache, content
):
    mirror, task = mirrors[0], ball_run(mirrors[0])
    mirror.content, mirror.version, mirror.breaks_off_after = content[::-1], '"1"', 10_000
    with pytest.raises(FetchFailed):
        fetch_dataset(task)
    mirror.content, mirror.version, mirror.breaks_off_after = content, '"2"', None
    assert fetch_dataset(task).read_bytes() == content
    assert mirror.versions_asked == [None, '"1"']
    assert len(list(cache.iterdir())) == 2


def test_another_file_than_the_first_is_rejected(mirrors, cache, content):
    task = ball_run(mirrors[0])
    path = fetch_dataset(task)
    known = path.with_name(f"{path.name}.sha256").read_text()
    assert known == f"{hashlib.sha256(content).hexdigest()}  {path.name}\n"
    path.unlink()
    # Sound, and with as many episodes.
    mirrors[0].content = content + bytes(8)
    with pytest.raises(FetchFailed, match=r"SHA-256 is .* but the file that was fetched first had"):
        fetch_dataset(task)
    assert not path.exists()
    mirrors[0].content = content
    assert fetch_dataset(task) == path


@pytest.mark.parametrize("redirected", [True, False])
def test_only_https_is_trusted(mirrors, cache, redirected):
    insecure = "http://mirror.invalid/file.hdf5"
    mirrors[0].redirect = insecure
    task = ball_run(mirrors[0])
    if not redirected:
        task = replace(task, dataset_urls=(insecure,))
    with pytest.raises(FetchFailed, match=r"http://mirror\.invalid is not https"):
        fetch_dataset(task)
