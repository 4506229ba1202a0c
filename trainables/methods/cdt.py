"""CDT: constrained decision transformer (Liu et al., 2023, arXiv 2302.07351).

A causal transformer reads windows of an episode, four tokens a step: the return still wanted, the
cost still allowed, the state and the action. From the state's token it predicts the action, from
the action's whether the step costs. Acting remembers the last steps; the wanted return and the
allowed cost of the first one are those that the policy's cost limit calls for, and fall by what is
earned and spent. One training serves every cost limit.

Episodes are drawn by their cost, and windows begin anywhere in them. Some episodes are shown a
second time under better returns than they have (`components.return_augmentation`), so that returns
are asked for that no episode has at a cost.

Where this differs from the public code (OSRL):

* The return that is wanted at a limit is by default the highest of the data's episodes that keep
  it. The public one is set by hand for each task and limit: `targets: given`. One beyond the data
  is warned of.
* The entropy's target, minus the number of action dimensions, is compared there with a mean over
  dimensions, which a Gaussian reaches only far later: `entropy_target: published`. By default it is
  that of one dimension, -1.
* A step costs where its cost is positive; the public code cuts fractions off, and fails at 2.
* No dropout (0.1 there, of attention, residuals and embeddings): its random numbers would be as
  many as all activations.
* Augmented pairs stay with the episodes that were found for them; the public code deals these out
  in another order. Where its thinning would leave no episode, all are kept.
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from safesweep.search_spaces.validation import InvalidInput, listed, shown
from safesweep.trainables.components.networks import Parameters, gaussian_log_density, mlp
from safesweep.trainables.components.return_augmentation import Floats, pareto_front, relabelled
from safesweep.trainables.components.schedules import linear_warmup
from safesweep.trainables.components.transformer import (
    INITIAL_DEVIATION,
    causal_transformer,
    init_linear,
    init_transformer,
)
from safesweep.trainables.components.windows import steps_left, sums_to_go, windows
from safesweep.trainables.methods.cdt_config import CDTConfig
from safesweep.trainables.methods.method import (
    Batch,
    Hyperparameters,
    LastStep,
    Losses,
    Memory,
    Method,
    MethodConfig,
    Optimization,
    Phase,
    ProblemSpec,
    Progress,
    State,
    StepInputs,
    StepOutputs,
)

AUGMENTATION_SEED = 0
TOKENS = ("return", "cost", "state", "action")
PART_SIZE = 2**20
"""Numbers that are to be there at a time of what the tokens of a minibatch are made to: 4 MB, which
a processor's cache and the system's store of free memory still hold."""
WINDOW_COLUMNS = (
    "observations", "actions", "returns_to_go", "costs_to_go", "steps", "costs", "steps_left",
)  # fmt: skip


class Predicted(NamedTuple):
    """At each step [..., K]: mean and log deviation of the action [..., K, a], and the logits of
    "it costs nothing" and "it costs" [..., K, 2]."""

    mean: Tensor
    log_std: Tensor
    costs: Tensor


class CDT(Method):
    """Constrained decision transformer (CDT), one training for every cost limit."""

    name = "cdt"
    config_class = CDTConfig
    policies = CDTConfig.policies
    # A training long enough for the least of its numbers to tell, and episodes of every kind.
    sensitive_settings: ClassVar[Mapping[str, Any]] = {
        "learning_rate": 3e-3,
        "warmup_steps": 10.0,
        "augmented_share": 3.0,
        "front_degree": 0,
        "targets": "data",
    }
    conditional_settings: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "target_return": {"targets": "given"},
        "second_target_return": {"targets": "given"},
        "third_target_return": {"targets": "given"},
    }

    def __init__(self, config: MethodConfig, spec: ProblemSpec) -> None:
        super().__init__(config, spec)
        self.length, self.width = self.static.context_length, self.static.hidden_dim
        if self.width % self.static.attention_heads:
            raise InvalidInput(
                f"attention_heads: {self.static.attention_heads} is not allowed; it must divide "
                f"hidden_dim, {self.width}"
            )
        for policy in self.evaluated_policies:
            self.require_target(policy)

    @property
    def phases(self) -> tuple[Phase, ...]:
        return (Phase("train", 1.0, ("transformer", "temperature")),)

    def prepare(self, data: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The data's episodes and the augmented ones, with what is still to come at each step."""
        left = steps_left(data["terminals"], data["timeouts"])
        starts = torch.nonzero(torch.cat((torch.ones(1), (left == 1).float()))[:-1]).squeeze(-1)
        lengths = left[starts].long()
        returns = sums_to_go(data["rewards"], left, self.static.discount)
        costs = sums_to_go(data["costs"], left, self.static.discount)
        first = returns[starts].double().numpy(), costs[starts].double().numpy()
        front = pareto_front(*first)
        self.front = {
            "costs": torch.as_tensor(first[1][front], dtype=torch.float32),
            "returns": torch.as_tensor(first[0][front], dtype=torch.float32),
        }
        self.warnings = self.targets_beyond(*first)
        steps = lengths.repeat_interleave(lengths) - left.long()
        columns = {
            "observations": data["observations"],
            "actions": data["actions"],
            "returns_to_go": returns * self.reward_factor,
            "costs_to_go": costs,
            "steps": steps.float(),
            "costs": data["costs"],
            "steps_left": left,
        }
        columns = self.with_augmented(columns, starts, lengths, *first)
        return {**columns, "sampling_weight": self.sampling_weights(columns)}

    def with_augmented(
        self, columns: dict[str, Tensor], starts: Tensor, lengths: Tensor, *first: Any
    ) -> dict[str, Tensor]:
        """Episodes once more at the end, with their columns to go moved to what is wanted."""
        static, (returns, costs) = self.static, first
        reach = returns.max() - returns.min()
        found = relabelled(
            returns, costs, static.augmented_share, static.front_degree,
            static.augmented_gain, static.highest_augmented_return or returns.max(),
            static.largest_return_decrease or 0.1 * reach, AUGMENTATION_SEED,
        )  # fmt: skip
        parts = {name: [column] for name, column in columns.items()}
        for episode, wanted_return, wanted_cost in zip(*found, strict=True):
            rows = slice(int(starts[episode]), int(starts[episode] + lengths[episode]))
            moved = {
                "returns_to_go": (wanted_return - returns[episode]) * self.reward_factor,
                "costs_to_go": wanted_cost - costs[episode],
            }
            for name, column in columns.items():
                parts[name].append(column[rows] + moved.get(name, 0.0))
        return {name: torch.cat(part) for name, part in parts.items()}

    def sampling_weights(self, columns: Mapping[str, Tensor]) -> Tensor:
        """Of windows: max(bound - C, 0) over the length of the episode that they begin in, of cost
        C; all episodes alike without a bound.

        Raises:
            InvalidInput: every episode costs at least the bound.
        """
        left, bound = columns["steps_left"].long(), self.static.sampling_cost_bound
        lengths = (left + columns["steps"].long()).double()
        begins = torch.arange(len(left)) - columns["steps"].long()
        cost = columns["costs_to_go"][begins].double()
        weight = (bound - cost).clamp(min=0) if bound > 0 else torch.ones_like(cost)
        if not bool((weight > 0).any()):
            raise InvalidInput(
                f"sampling_cost_bound: {bound:g} leaves nothing to learn from; the lowest-cost "
                f"episode costs {float(cost.min()):g}"
            )
        return (weight / lengths).float()

    def given_targets(self) -> dict[float, float]:
        """The returns that are wanted by hand: by cost limit, the task's in their order."""
        static = self.static
        wanted = static.target_return, static.second_target_return, static.third_target_return
        limits = self.spec.cost_limits or (self.spec.cost_limit,)
        return dict(zip(sorted(limits), wanted, strict=False))

    def targets_beyond(self, returns: Floats, costs: Floats) -> list[str]:
        """Which of what the policy is told lies beyond all episodes, whose returns and costs these
        are: the returns that are wanted by hand, and the cost limits; a line each."""
        given = self.given_targets() if self.static.targets == "given" else {}
        told = [
            (
                f"return {wanted:g} that is wanted at the cost limit {limit:g}",
                wanted,
                "return",
                returns,
            )
            for limit, wanted in given.items()
        ] + [
            (f"cost limit {limit:g}", limit, "cost", costs)
            for limit in map(self.cost_limit_of, self.evaluated_policies)
        ]
        return [
            f"targets: the {what} is beyond the data, whose episodes {verb} "
            f"{seen.min():.4g} to {seen.max():.4g}"
            for what, value, verb, seen in told
            if not seen.min() <= value <= seen.max()
        ]

    def gather(self, columns: Mapping[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
        batch = windows({name: columns[name] for name in WINDOW_COLUMNS}, rows, self.length)
        return {**batch, **shares_of_steps(batch["mask"])}

    @property
    def minibatch_parts(self) -> int:
        numbers: int = self.static.batch_size * self.length * len(TOKENS) * self.width
        return math.ceil(numbers / PART_SIZE)

    def init(self, generator: torch.Generator) -> State:
        width, action = self.width, self.spec.action_dim
        sizes = {"return": 1, "cost": 1, "state": self.spec.observation_dim, "action": action}
        # A window may begin at an episode's last step, and names the steps after it as well.
        places = torch.randn(self.spec.horizon + self.length, width, generator=generator)
        transformer = {
            **{token: init_linear(generator, sizes[token], width) for token in TOKENS},
            "steps": places * INITIAL_DEVIATION,
            **init_transformer(generator, width, self.static.hidden_layers),
            "mean": init_linear(generator, width, action),
            "log_std": init_linear(generator, width, action),
            "costs": init_linear(generator, width, 2),
        }
        params = {"transformer": transformer, "temperature": {"log": torch.zeros(())}}
        return {"params": params, "front": self.front}

    def begin(self, state: State, hp: Hyperparameters) -> State:
        log = hp.initial_temperature.log()
        return {**state, "params": {**state["params"], "temperature": {"log": log}}}

    def predict(self, model: Parameters, batch: Mapping[str, Tensor]) -> Predicted:
        """What the model says of windows [..., K] of the columns of `gather`."""
        step = batch["steps"].long().clamp(max=len(model["steps"]) - 1)
        inputs = (
            batch["returns_to_go"].unsqueeze(-1),
            (self.static.cost_token_offset - batch["costs_to_go"]).unsqueeze(-1),
            batch["observations"],
            batch["actions"],
        )
        place = model["steps"][step]
        tokens = torch.stack(
            [mlp(model[name], given) + place for name, given in zip(TOKENS, inputs, strict=True)],
            dim=-2,
        )
        hidden = causal_transformer(model, tokens.flatten(-3, -2), self.static.attention_heads)
        hidden = hidden.reshape(tokens.shape)
        state, action = hidden[..., 2, :], hidden[..., 3, :]
        return Predicted(mlp(model["mean"], state), mlp(model["log_std"], state),
                         mlp(model["costs"], action))  # fmt: skip

    @property
    def losses(self) -> Losses:
        return {"train": self.loss}

    def loss(self, inputs: StepInputs) -> StepOutputs:
        """-(log likelihood + temperature x entropy) a step and dimension, plus the weighted cross
        entropy of "it costs"; and the temperature's own. Each is a sum over steps, by their shares
        of the minibatch."""
        batch, hp, share = inputs.batch, inputs.hp, inputs.batch["share"]
        found = self.predict(inputs.params["transformer"], batch)
        dims = self.spec.action_dim
        log_density = gaussian_log_density(batch["actions"], found.mean, found.log_std) / dims
        likelihood = (share * log_density).sum()
        one = 0.5 * math.log(2 * math.pi * math.e)
        entropy = (share * (one + found.log_std.mean(-1))).sum()
        temperature = inputs.params["temperature"]["log"].exp()
        policy = -(likelihood + temperature.detach() * entropy)
        logits = functional.log_softmax(found.costs, dim=-1)
        cross_entropy = -torch.where(batch["costs"] > 0, logits[..., 1], logits[..., 0])
        costs = (batch["share_of_places"] * cross_entropy).sum()
        target = -float(dims) if self.static.entropy_target == "published" else -1.0
        losses = {
            "transformer": policy + hp.cost_prediction_weight * costs,
            "temperature": temperature * (entropy.detach() - share.sum() * target),
        }
        metrics = {
            "loss/policy": policy, "loss/costs": costs, "log_likelihood": likelihood,
            "entropy": entropy, "temperature": share.sum() * temperature,
        }  # fmt: skip
        return StepOutputs(losses, metrics)

    def optimization(self, phase: str, hp: Hyperparameters, progress: Progress) -> Optimization:
        warm = hp.learning_rate * linear_warmup(progress.step, hp.warmup_steps)
        return Optimization(
            learning_rates={"transformer": warm, "temperature": hp.learning_rate},
            weight_decays={"transformer": hp.weight_decay},
            gradient_norms={"transformer": hp.gradient_norm},
        )

    def wanted_return(self, policy: str, state: State) -> Tensor:
        """The return that an episode is begun with, in the data's unit: []."""
        limit, front = self.cost_limit_of(policy), state["front"]
        if self.static.targets == "given":
            return torch.full_like(front["costs"][0], self.given_targets()[limit])
        kept = torch.where(front["costs"] <= limit, front["returns"], -torch.inf).amax(0)
        # Where no episode keeps the limit, as much as the cheapest one has.
        return torch.where(torch.isfinite(kept), kept, front["returns"][0])

    def require_target(self, policy: str) -> None:
        """Refuse a policy whose cost limit calls for a return that was not given.

        Raises:
            InvalidInput: targets are given, and none for the policy's cost limit.
        """
        limit, known = self.cost_limit_of(policy), self.given_targets()
        if self.static.targets == "given" and limit not in known:
            raise InvalidInput(
                f"policy: {shown(policy)} is not allowed; `targets: given` has a return for the "
                f"cost limits {listed(f'{limit:g}' for limit in known)} alone"
            )

    def begin_episode(self, policy: str, hp: Hyperparameters) -> Memory:
        """The window, of which nothing is filled."""
        self.require_target(policy)
        length = self.length
        return {
            "observations": torch.zeros(length, self.spec.observation_dim),
            "actions": torch.zeros(length, self.spec.action_dim),
            "returns_to_go": torch.zeros(length),
            "costs_to_go": torch.zeros(length),
            "return_left": torch.zeros(()),
            "cost_left": torch.zeros(()),
            "step": torch.zeros(()),
        }

    def act_with_memory(
        self,
        policy: str,
        state: State,
        observations: Tensor,
        hp: Hyperparameters,
        noise: Batch,
        memory: Memory,
        last: LastStep,
    ) -> tuple[Tensor, Memory]:
        """The mean action after the window of the last steps, in which this one's action is 0."""
        begun, discount = memory["step"] == 0, self.static.discount
        wanted = self.wanted_return(policy, state) * self.reward_factor
        left = (memory["return_left"] - self.reward_factor * last.reward) / discount
        left = torch.where(begun, wanted, left)
        allowed = (memory["cost_left"] - last.cost) / discount
        allowed = torch.where(begun, self.cost_limit_of(policy), allowed)
        # The window moves on when it is full; this step is its last one until then.
        full = (memory["step"] >= self.length).unsqueeze(-1)
        place = memory["step"].clamp(max=self.length - 1).unsqueeze(-1)
        slots = torch.arange(self.length, device=observations.device)
        here = slots == place

        def shifted(column: Tensor) -> Tensor:
            more = [1] * (column.dim() - full.dim())
            return torch.where(full.reshape(*full.shape, *more), column.roll(-1, 1), column)

        def written(column: Tensor, new: Tensor) -> Tensor:
            spot = here.reshape(*here.shape, *[1] * (column.dim() - 2))
            return torch.where(spot, new.unsqueeze(1), column)

        nothing = torch.zeros_like(memory["actions"][:, 0])
        window = {
            "observations": written(shifted(memory["observations"]), observations),
            "actions": written(shifted(memory["actions"]), nothing),
            "returns_to_go": written(shifted(memory["returns_to_go"]), left),
            "costs_to_go": written(shifted(memory["costs_to_go"]), allowed),
        }
        first = (memory["step"].unsqueeze(-1) - place).clamp(min=0)
        means = self.predict(
            state["params"]["transformer"], {**window, "steps": first + slots}
        ).mean
        action = (means * here.unsqueeze(-1)).sum(1).clamp(-1, 1)
        window["actions"] = written(window["actions"], action)
        after = {"return_left": left, "cost_left": allowed, "step": memory["step"] + 1}
        return action, {**window, **after}

    def diagnose(
        self, state: State, observations: Tensor, hp: Hyperparameters, noise: Batch
    ) -> dict[str, Tensor]:
        """The return that is wanted at the limit by which the method is judged."""
        return {"wanted_return": self.wanted_return(self.evaluated_policies[0], state)}


def shares_of_steps(mask: Tensor) -> dict[str, Tensor]:
    """What each step of a minibatch's windows [..., B, K] counts: of the mean over the steps of
    episodes, and of that over all places, the ones beyond an episode's end included."""
    places = mask.shape[-2] * mask.shape[-1]
    return {"share": mask / mask.sum((-2, -1), keepdim=True), "share_of_places": mask / places}
