"""Methods of which the papers' numbers are at hand, and nothing to run."""

from safesweep.search_spaces.validation import InvalidInput, shown

PRINTED_ONLY: dict[str, str] = {
    "trebi": "TREBI",
    "c2iql": "C2IQL",
    "calql": "Cal-QL",
    "rlpd": "RLPD",
    "srpo": "SRPO",
    "cac": "CAC",
}
"""By name without hyphens, what the view `published` calls them."""


def unknown_method(name: object, problem: InvalidInput) -> InvalidInput:
    """What is said of a method that there is none of."""
    plain = str(name).lower().replace("-", "").replace("_", "")
    if plain in PRINTED_ONLY:
        return InvalidInput(
            f"algorithm: {shown(name)} cannot be run; what papers print of it is in the view "
            f"`published`, under method = '{PRINTED_ONLY[plain]}' (safesweep query)"
        )
    return InvalidInput(f"{problem}; one from outside needs its plugin (--plugin)")
