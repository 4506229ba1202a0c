"""An S3 server on this machine, for tests of stores behind a URI."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from moto.server import ThreadedMotoServer
from pyarrow import fs

BUCKET = "bucket"


class ObjectStore:
    """moto's server; what it holds outlives `stop`, since moto keeps it in this process."""

    def __init__(self) -> None:
        self._port = 0
        self.start()

    def start(self) -> None:
        self._server = ThreadedMotoServer("127.0.0.1", self._port, verbose=False)
        self._server.start()
        self._port = self._server.get_host_and_port()[1]

    def stop(self) -> None:
        self._server.stop()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._port}"


@contextmanager
def object_store() -> Iterator[ObjectStore]:
    """A server with an empty bucket, to which the environment leads pyarrow; workers inherit it."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        server = ObjectStore()
        patch.setenv("AWS_ENDPOINT_URL", server.endpoint)
        try:
            filesystem, _ = fs.FileSystem.from_uri(
                f"s3://{BUCKET}?allow_bucket_creation=true&allow_bucket_deletion=true"
            )
            filesystem.create_dir(BUCKET)
            yield server
            server.stop()
            server.start()
            filesystem.delete_dir(BUCKET)
        finally:
            server.stop()
