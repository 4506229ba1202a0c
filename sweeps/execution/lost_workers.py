"""Why a worker was lost: killed because its node had no memory left, or anything else.

Three kill for memory. Ray's monitor does where a node's use passes a threshold; Ray says so. The
kernel does with SIGKILL, which Ray cannot tell from any other; the kernel counts its kills, so that
the count of the worker's node is compared with the one before. A program does itself, where C++
code is refused memory (`std::bad_alloc`); that stands in what it printed last.
"""

import contextlib
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

from safesweep.sweeps.execution.failures import Failure, describe_error
from safesweep.sweeps.execution.worker_output import on_node, output_of_lost_worker

KILLED_BY_MONITOR = ("memory monitor", "running low on memory", "OutOfMemoryError")
"""What Ray writes where its monitor has killed a worker."""

REFUSED_MEMORY = ("std::bad_alloc", "can't allocate memory", "Cannot allocate memory")
"""The last words of a program that was refused memory and ended itself."""

VMSTAT = Path("/proc/vmstat")


def kernel_kills() -> int | None:
    """How many processes of this machine the kernel has killed for memory since it started, in a
    limited group (a container's) or altogether; None where it does not say."""
    with contextlib.suppress(OSError):
        found = re.search(r"^oom_kill (\d+)$", VMSTAT.read_text(encoding="ascii"), re.MULTILINE)
        if found is not None:
            return int(found[1])
    return None


class LostWorkers:
    """Tells why workers were lost, from the nodes' own counts since `look`."""

    def __init__(self) -> None:
        self._before: dict[str, int] = {}

    def look(self) -> None:
        """Note the kernel's counts on all nodes; those of other ones while this goes on."""
        import ray

        here = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        self._note(here)
        nodes = ray.nodes()  # type: ignore[no-untyped-call]
        hosts = {str(node["NodeManagerAddress"]) for node in nodes if node["Alive"]} - {here}
        for host in hosts:
            threading.Thread(target=self._note, args=(host,), daemon=True).start()

    def failure(self, problem: BaseException) -> Failure:
        """What an error of Ray's means, of which no code of a trial was the cause."""
        whole, told = str(problem), describe_error(problem)
        output = output_of_lost_worker(whole)
        if any(words in whole for words in KILLED_BY_MONITOR):
            reason = "its node ran low on memory, and Ray's memory monitor killed its worker"
            return Failure("starved", reason, whole, output)
        host = re.search(r"^\s*ip: (\S+)$", whole, re.MULTILINE)
        if host is not None and self._killed_on(host[1]):
            reason = "its node ran out of memory, and the kernel killed its worker"
            return Failure("starved", reason, whole, output)
        if any(words in output for words in REFUSED_MEMORY):
            return Failure("memory", "its worker ended for lack of memory", whole, output)
        return Failure("lost", told, whole, output)

    def _note(self, host: str) -> int | None:
        found = on_node(host, kernel_kills)
        if not isinstance(found, int):
            return None
        self._before[host] = found
        return found

    def _killed_on(self, host: str) -> bool:
        """Whether the kernel has killed there once more than is accounted for."""
        before = self._before.get(host)
        now = self._note(host)
        if before is None or now is None or now <= before:
            return False
        # One kill explains one loss.
        self._before[host] = before + 1
        return True


@contextlib.contextmanager
def every_loss_told() -> Iterator[None]:
    """Within it Tune hands every error of Ray's on to the trial that it is of.

    Tune knows an actor's death and an exception of its code, and ends the whole run at any other
    error, such as that of a worker which the memory monitor has killed, or a node that died.
    """
    from ray.air.execution._internal.actor_manager import RayActorManager
    from ray.exceptions import RayActorError, RayError, RayTaskError
    from ray.tune.experiment import Trial

    class WorkerLost(RayActorError):
        def __init__(self, told: str) -> None:
            super().__init__(error_msg=told)

    fail, fail_start = RayActorManager._actor_task_failed, RayActorManager._actor_start_failed
    first_result = Trial._get_default_result_or_future

    def known(exception: Exception) -> Exception:
        if isinstance(exception, RayActorError | RayTaskError):
            return exception
        return WorkerLost(f"{type(exception).__name__}: {exception}")

    def told(self: Any, tracked_actor_task: Any, exception: Exception) -> None:
        fail(self, tracked_actor_task=tracked_actor_task, exception=known(exception))

    def told_at_start(self: Any, tracked_actor: Any, exception: Exception) -> None:
        fail_start(self, tracked_actor=tracked_actor, exception=known(exception))

    def first_result_or_none(self: Any) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] | None = first_result(self)
            return found
        except RayError:  # Its actor died for another reason than those that Tune expects.
            self._default_result_or_future = None
            return None

    with (
        patch.object(RayActorManager, "_actor_task_failed", told),
        patch.object(RayActorManager, "_actor_start_failed", told_at_start),
        patch.object(Trial, "_get_default_result_or_future", first_result_or_none),
    ):
        yield
