"""The end of what a worker printed."""

import subprocess
import sys
from pathlib import Path

from safesweep.sweeps.execution.worker_output import (
    LONGEST_OUTPUT,
    output_of_lost_worker,
    worker_files,
)


def test_a_process_keeps_what_it_printed_since_and_no_more(tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        "from safesweep.sweeps.execution.worker_output import output_since, output_so_far\n"
        "print('of an earlier trial', flush=True)\n"
        "before = output_so_far()\n"
        "print(':task_name:Trainable.step'); print('now'); os.write(2, b'bad \\xff\\n')\n"
        "open(sys.argv[1], 'w').write(output_since(before))\n"
    )
    kept = tmp_path / "kept"
    with (tmp_path / "out").open("w") as out, (tmp_path / "err").open("w") as err:
        subprocess.run([sys.executable, "-c", code, str(kept)], stdout=out, stderr=err, check=True)
    assert kept.read_text() == "[standard output]\nnow\n[standard error]\nbad \ufffd"


def test_a_process_whose_output_goes_to_a_pipe_keeps_nothing() -> None:
    code = (
        "from safesweep.sweeps.execution.worker_output import output_since, output_so_far\n"
        "before = output_so_far(); print('now'); kept = output_since(before)\n"
        "raise SystemExit(1 if before or kept else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_of_much_the_end_is_kept(tmp_path: Path) -> None:
    (tmp_path / "worker-ab-ff-17.out").write_text("x" * 10**6 + "last words")
    (tmp_path / "worker-ab-ff-17.err").write_text(":job_id:01\n:actor_name:A\n")
    (tmp_path / "worker-ab-ff-170.err").write_text("another process")
    kept = worker_files(str(tmp_path), 17)
    assert kept.startswith("[standard output]\n...xxx")
    assert kept.endswith("last words")
    assert LONGEST_OUTPUT < len(kept) < LONGEST_OUTPUT + 100
    assert worker_files(str(tmp_path), 18) == ""


def test_a_worker_that_ray_does_not_name_has_no_output() -> None:
    assert output_of_lost_worker("The actor died because its node is gone.") == ""
