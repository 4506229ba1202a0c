"""Writing a policy for use elsewhere: tensors, a program of torch's, or ONNX, with a model card."""

import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim

from safesweep.search_spaces.validation import InvalidInput, one_line, shown
from safesweep.trainables.policies import policy as runtime
from safesweep.trainables.policies.loading import ActingNetwork
from safesweep.trainables.policies.policy import DESCRIPTION_FILE, PROGRAM_FILE
from safesweep.trainables.tasks.registry import get_task, suite_of

CARD_FILE = "README.md"
TENSORS_FILE = "policy.safetensors"
ONNX_FILE = "policy.onnx"
_SHOWN_REASON = 160


def write_tensors(network: ActingNetwork, description: Mapping[str, Any], folder: Path) -> None:
    """The parameters by name, and the hyperparameters that the policy acts with.

    Raises:
        InvalidInput: safetensors is not installed.
    """
    try:
        from safetensors.torch import save_file
    except ImportError:
        raise _not_installed("safetensors") from None
    tensors = {name: value.contiguous().clone() for name, value in network.tensors().items()}
    save_file(tensors, folder / TENSORS_FILE, {"run_id": str(description["run_id"])})


def write_program(network: ActingNetwork, description: Mapping[str, Any], folder: Path) -> None:
    """A program of `torch.export`, and beside it the file that loads it, which needs torch and
    numpy alone.

    Raises:
        InvalidInput: torch cannot make a program of this policy.
    """
    arguments, dimensions = _example(description)
    with _one_line("torch", description):
        program = torch.export.export(network, arguments, dynamic_shapes=dimensions)
        torch.export.save(program, folder / PROGRAM_FILE)
    source = Path(runtime.__file__)
    (folder / source.name).write_text(source.read_text(encoding="utf-8"), encoding="utf-8")


def write_onnx(network: ActingNetwork, description: Mapping[str, Any], folder: Path) -> None:
    """The network as ONNX; its inputs are the observations, the noise, the memory and what the
    step before brought.

    Raises:
        InvalidInput: ONNX has no form for this policy, or the packages are not installed.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as problem:
        raise _not_installed(str(problem.name)) from None
    arguments, dimensions = _example(description)
    names = ["observations", *(f"noise_{name}" for name in description["noise"])]
    names += [f"memory_{name}" for name in description["memory"]]
    with _one_line("onnx", description):
        torch.onnx.export(
            network,
            arguments,
            folder / ONNX_FILE,
            input_names=[*names, "last_reward_and_cost"],
            output_names=["actions", *(f"next_memory_{name}" for name in description["memory"])],
            dynamic_shapes=dimensions,
            dynamo=True,
            external_data=False,
            verbose=False,
        )


Write = Callable[[ActingNetwork, Mapping[str, Any], Path], None]
FORMATS: dict[str, Write] = {
    "safetensors": write_tensors,
    "torch": write_program,
    "onnx": write_onnx,
}


def export_policy(
    network: ActingNetwork,
    description: Mapping[str, Any],
    evidence: Sequence[Mapping[str, Any]],
    formats: Sequence[str],
    folder: Path,
) -> None:
    """Write a policy in some formats to a folder, with `policy.json` and a model card.

    Args:
        evidence: rows of `evaluations` and `confirmations` of the run and policy.
        formats: some of FORMATS.
        folder: new or empty.

    Raises:
        InvalidInput: a format that the policy cannot have, or a folder that cannot be written.
    """
    try:
        if folder.exists() and any(folder.iterdir()):
            raise InvalidInput(f"out: {str(folder)!r} is not empty; name a new folder")
        folder.mkdir(parents=True, exist_ok=True)
        for name in formats:
            FORMATS[name](network, description, folder)
        text = json.dumps(description, indent=1)
        (folder / DESCRIPTION_FILE).write_text(text + "\n", encoding="utf-8")
        card = model_card(description, evidence, formats)
        (folder / CARD_FILE).write_text(card, encoding="utf-8")
    except OSError as problem:
        raise InvalidInput(f"out: {str(folder)!r} cannot be written ({problem})") from problem


def model_card(
    description: Mapping[str, Any], evidence: Sequence[Mapping[str, Any]], formats: Sequence[str]
) -> str:
    """What the policy is, what it was trained and judged on, and by which evidence; Markdown."""
    given = description
    suite = suite_of(get_task(given["task"]))
    licence = suite.data_licence or "not known here; it is for whoever made or published the data"
    rows = [
        f"| {row['evidence']} | {row['step']} | {row['episodes']} | "
        f"{row['normalized_reward']:.3f} | {row['cost_return_mean']:.2f} | "
        f"{row['normalized_cost']:.3f} | {row['violation_rate']:.0%} |"
        for row in evidence
    ]
    settings = "\n".join(f"- `{name}`: {value}" for name, value in given["hyperparameters"].items())
    return f"""# {given["algorithm"]} on {given["task"]}, policy `{given["policy"]}`

Trained offline by safesweep; it has been judged in simulation only.

| | |
|---|---|
| task | {given["task"]} (suite {suite.name}): {given["observation_dim"]} numbers observed, \
{given["action_dim"]} actions, each within [-1, 1] |
| cost limit of an episode | {given["cost_limit"]:g} |
| run | `{given["run_id"]}` of sweep {given["sweep"]}, seed {given["seed"]}, \
{given["step"]} gradient steps |
| code | {given["code_version"]} |
| data | `{given["dataset_id"]}` |
| licence of published data of this suite | {licence} |

## Evidence

Means over the episodes of this one run; rewards and costs are normalised as DSRL does: a cost of at
most 1 keeps the limit. What a choice was made by is optimistic about it; confirmations are not.

| from | step | episodes | normalised reward | cost | normalised cost | episodes over the limit |
|---|---|---|---|---|---|---|
{chr(10).join(rows) or "| none in the store | | | | | | |"}

## Files

{chr(10).join(_FILES[name] for name in formats)}
- `{DESCRIPTION_FILE}`: sizes, and the noise and the memory that acting takes.

## Hyperparameters

{settings}
"""


_FILES = {
    "safetensors": f"- `{TENSORS_FILE}`: the parameters by name, for programs of your own.",
    "torch": f"- `{PROGRAM_FILE}` and `policy.py`, which needs torch (this is {torch.__version__}) "
    "and numpy: `from policy import Policy; Policy.load('.').act(observation)`.",
    "onnx": f"- `{ONNX_FILE}`: inputs are the observations [E, o], the noise of a step, the memory "
    "and [2, E] rewards and costs of the step before, as far as the policy uses them.",
}


def _example(description: Mapping[str, Any]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Arguments of two episodes, and which of their axes is that of episodes."""
    episodes = Dim.DYNAMIC
    noise = {
        name: torch.zeros((2, *wanted["shape"])) for name, wanted in description["noise"].items()
    }
    memory: dict[str, Tensor] = {}
    for name, value in description["memory"].items():
        one = torch.tensor(value["value"], dtype=getattr(torch, value["dtype"]))
        memory[name] = one.repeat(2, *[1] * one.dim())
    observations = torch.zeros((2, description["observation_dim"]))
    dimensions = (
        {0: episodes},
        {name: {0: episodes} for name in noise},
        {name: {0: episodes} for name in memory},
        {1: episodes},
    )
    return (observations, noise, memory, torch.zeros((2, 2))), dimensions


def _not_installed(package: str) -> InvalidInput:
    return InvalidInput(
        f"format: needs {package}, which is not installed; install the extra export"
    )


@contextmanager
def _one_line(format: str, description: Mapping[str, Any]) -> Iterator[None]:
    """Within it, whatever a converter raises is one line that names the format and the policy."""
    try:
        # What converters find worth a warning says nothing to whoever has a policy.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except OSError:
        raise
    except Exception as problem:
        reason = one_line(problem)[:_SHOWN_REASON]
        raise InvalidInput(
            f"format: {format} cannot hold policy {shown(description['policy'])} of "
            f"{description['algorithm']} ({reason})"
        ) from problem
