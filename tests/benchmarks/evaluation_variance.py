"""How much of what differs between runs their episodes make, from the runs of a store.

Run it as `python -m tests.benchmarks.evaluation_variance STORE`; with `--csv` it prints the rows
that `sweeps/evaluation_variance.csv` ships, whose first line says of which runs they are.
"""

import argparse

from safesweep.analysis.store.reader import ResultStore
from safesweep.analysis.variance import episode_variances, noise_share
from tests.benchmarks.measurement import print_table

EPISODES = (3, 10, 300)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", help="a folder or a URI")
    parser.add_argument("--csv", action="store_true", help="the rows that ship")
    arguments = parser.parse_args()
    found = episode_variances(ResultStore(arguments.store))
    if arguments.csv:
        print(found.to_csv(index=False, float_format="%.4g"), end="")
        return
    shares = {
        f"of {episodes}": [
            f"{noise_share(within, between, episodes):.0%}"
            for within, between in zip(found["within"], found["between"], strict=True)
        ]
        for episodes in EPISODES
    }
    print_table(found.assign(**shares).round(4).to_dict("records"))


if __name__ == "__main__":
    main()
