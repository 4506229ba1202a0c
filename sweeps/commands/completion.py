"""`safesweep completion`: what a shell needs to complete commands and options."""

import argparse

from safesweep.search_spaces.validation import InvalidInput

SHELLS = ("bash", "zsh", "tcsh")


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command `completion`."""
    parser = commands.add_parser(
        "completion",
        help="print what a shell needs to complete commands and options",
        description='bash: eval "$(safesweep completion bash)" in ~/.bashrc; zsh: '
        "safesweep completion zsh > a folder of $fpath/_safesweep.",
    )
    parser.add_argument("shell", choices=SHELLS)
    parser.set_defaults(handler=print_completion)


def print_completion(arguments: argparse.Namespace) -> int:
    """Print the script.

    Raises:
        InvalidInput: shtab is not installed.
    """
    try:
        import shtab
    except ImportError:
        raise InvalidInput(
            "completion: needs shtab, which is not installed (pip install shtab)"
        ) from None
    from safesweep.sweeps.cli import build_parser

    print(shtab.complete(build_parser(), arguments.shell))
    return 0
