"""Names by which hyperparameters choose among components, apart from what they stand for, which
needs torch."""

from itertools import permutations

ACTIVATION_NAMES = ("relu", "gelu", "tanh", "silu")
"""The functions are `components.networks.ACTIVATIONS`."""

NORMS = ("none", "before_activation", "after_activation")
"""Where a hidden layer may be normalised: Ba et al. (2016) do it before the activation, the code of
FQL after it."""

KERNELS = ("gaussian", "laplacian")
"""Of a mean discrepancy (`components.mean_discrepancy`)."""

EXPERTS = ("safety", "reward", "shared")
"""Of FLRP's refiner (`components.latent_refiner`)."""

REFINEMENT_ORDERS = (*("-".join(order) for order in permutations(EXPERTS)), "random", "none")
"""In which they act."""

REFINED_POLICIES = {
    "unrefined": 0, "refined_1": 1, "refined_2": 2, "refined_5": 5, "refined_10": 10,
}  # fmt: skip
"""Policies of a trained run of FLRP beside "flrp", by how many steps they refine (figures 3, 4)."""
