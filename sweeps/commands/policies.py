"""`safesweep record`: an episode of a policy as a video; and what `export` does for policies."""

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safesweep.search_spaces.validation import InvalidInput
from safesweep.sweeps.commands.logs import find_run
from safesweep.sweeps.commands.results import add_storage_option, add_sweeps, open_store
from safesweep.sweeps.output import say

if TYPE_CHECKING:
    from safesweep.analysis.store.reader import ResultStore

POLICY_FORMATS = ("safetensors", "torch", "onnx")


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command `record`."""
    parser = commands.add_parser(
        "record",
        help="write a video of an episode of a run's policy, with the steps that cost marked",
        description="The boats, Bullet's tasks and environments of gymnasium can be filmed.",
    )
    parser.add_argument("run", help="the run's id, or its beginning")
    add_sweeps(parser, named=False)
    parser.add_argument(
        "--policy", help="one of the method's (default: the one by which it is judged)"
    )
    add_storage_option(parser)
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="a .gif or .mp4 (default: <run>.gif)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the episode (default: 0)")
    parser.add_argument(
        "--every", type=int, default=1, metavar="STEPS", help="between pictures (default: 1)"
    )
    parser.add_argument("--fps", type=int, default=25, help="pictures a second (default: 25)")
    parser.set_defaults(handler=record)


def export_policy(arguments: argparse.Namespace) -> int:
    """Write the files of one policy and say where they are."""
    from safesweep.trainables.policies.export import export_policy
    from safesweep.trainables.policies.loading import acting_network

    if len(arguments.names) != 1:
        raise InvalidInput(
            f"run: {len(arguments.names)} are given; --format writes the policy of one"
        )
    store = open_store(arguments)
    run = str(find_run(store, arguments.names[0], arguments.sweeps)["run_id"])
    network, description = acting_network(store, run, arguments.policy)
    folder = arguments.out or Path(f"policy-{run}")
    formats = list(dict.fromkeys(arguments.format))
    # What the converters note on the way is for those who write converters.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    export_policy(
        network, description, _evidence(store, run, description["policy"]), formats, folder
    )
    say(f"wrote policy {description['policy']} of run {run} to {folder}")
    return 0


def _evidence(store: "ResultStore", run: str, policy: str) -> list[dict[str, Any]]:
    """The last evaluation of a policy, and its confirmations."""
    own = {"run_id": run, "policy": policy}
    judged = store.evaluations(**own).drop_duplicates("step", keep="last").sort_values("step")
    confirmed = store.confirmations(**own)
    rows = [("evaluation", row) for row in judged.tail(1).to_dict("records")]
    rows += [("confirmation", row) for row in confirmed.to_dict("records")]
    return [{**{str(k): v for k, v in row.items()}, "evidence": name} for name, row in rows]


def record(arguments: argparse.Namespace) -> int:
    """Write the video and say what happened in it."""
    from safesweep.trainables.policies.film import film_episode
    from safesweep.trainables.policies.loading import load_policy
    from safesweep.trainables.tasks.registry import get_task

    store = open_store(arguments)
    run = str(find_run(store, arguments.run, arguments.sweeps)["run_id"])
    path = arguments.output or Path(f"{run}.gif")
    if path.is_dir():
        raise InvalidInput(f"output: {str(path)!r} is a folder; name a file")
    policy = load_policy(store, run, arguments.policy)
    task = get_task(policy.description["task"])
    found = film_episode(policy, task, path, arguments.seed, arguments.every, arguments.fps)
    say(
        f"wrote {found.frames} pictures of {found.length} steps to {path}: reward "
        f"{found.reward_return:.1f}, cost {found.cost_return:g} (limit "
        f"{policy.description['cost_limit']:g})"
    )
    return 0
