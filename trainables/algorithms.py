"""The registry of methods: a new method is one file, one line here and one search space."""

from trainables.flrp import FLRP
from trainables.method import Method

ALGORITHMS: dict[str, type[Method]] = {
    "flrp": FLRP,
}
