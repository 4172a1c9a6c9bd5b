"""One head in training: its plan, its optimizer and its steps."""

import zlib

import numpy as np
import torch

from pii.decoder.features import Reader, columns_of, to_device
from pii.heads.heads import STRONG, build_head
from pii.processes import Processes
from pii.training.plans import Plan
from pii.training.steps import Step


class HeadTrainer:
    """A head, its optimizer, its log of [steps, 3] (loss, gradient norm, learning rate) and its checks (step, strict F1
    on validation rows).

    The random numbers of a step depend on the seed, the kind of head and the step alone, so that a head comes out the
    same beside others and after a resumption.
    """

    def __init__(
        self,
        plan: Plan,
        reader: Reader,
        num_labels: int,
        seed: int,
        max_grad_norm: float,
        processes: Processes,
    ) -> None:
        self.plan, self.seed, self.processes = plan, seed, processes
        self.max_grad_norm = max_grad_norm
        hidden_size = reader.backbone.config.hidden_size
        self.columns = columns_of(reader.layers, plan.layers, hidden_size)
        self.head_width = len(plan.layers) * hidden_size
        self.is_standardised = False  # a head that starts from another run's is
        self.seed_step(0, rank=0)
        self.head = build_head(plan.kind, self.head_width, num_labels, plan.dropout, plan.units)
        self.head.to(processes.device).train()
        self.parameters = list(self.head.parameters())
        # fused: one launch on a GPU, a third of the time on a CPU (where the documented head keeps its bits)
        fused = processes.device.type == "cuda" or (processes.device.type == "cpu" and plan.kind == STRONG)
        self.optimizer = torch.optim.AdamW(self.parameters, lr=plan.learning_rate, fused=fused)
        self.log: list[list[float]] = []
        self.checks: list[list[float]] = []

    def seed_step(self, number: int, rank: int) -> None:
        key = [self.seed, zlib.crc32(self.plan.kind.encode()), number, rank]
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))

    def standardise(self, features: torch.Tensor) -> None:
        """Before the first step: tell the head how large each feature is on all processes' first windows."""
        if self.is_standardised:
            return
        features = features[:, self.columns].double()
        sums = [features.new_tensor([len(features)]), features.sum(dim=0), features.square().sum(dim=0)]
        self.processes.all_reduce(sums)
        mean = sums[1] / sums[0]
        self.head.standardise(mean, (sums[2] / sums[0] - mean.square()).clamp(min=0).sqrt())

    def loss(self, step: Step, features: torch.Tensor, tags: dict[str, torch.Tensor]) -> torch.Tensor:
        """The head's loss over this process's part of a step, summed over tokens and divided by the scored tokens of
        all processes: 0, without a gradient, where this process has no part.

        `features` [tokens, width] and `tags` [scored tokens] of each scheme, both of the step's group.
        """
        if not len(step.windows):
            return torch.zeros((), device=features.device)
        logits = self.head(features[step.tokens, self.columns], torch.from_numpy(step.windows.lengths))
        scored = to_device(step.windows.scored_places(), features.device)
        counts = torch.from_numpy(step.windows.scored_counts)
        return self.head.loss(logits.index_select(0, scored), tags[self.head.tags][step.scored], counts) / step.count

    def sum_gradients(self, loss: torch.Tensor) -> None:
        """Replace the gradients, and the loss, with their sums over all processes."""
        gradients = []
        for parameter in self.parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
        self.processes.all_reduce([*gradients, loss])

    def state(self) -> dict[str, torch.Tensor]:
        """All that a later process needs to go on, as named tensors."""
        tensors = {f"head/{name}": tensor for name, tensor in self.head.state_dict().items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{index}/{name}": tensor for name, tensor in moments.items()}
        tensors["log"] = torch.tensor(self.log, dtype=torch.float64).view(-1, 3)
        tensors["checks"] = torch.tensor(self.checks, dtype=torch.float64).view(-1, 2)
        return {f"{self.plan.name}/{name}": tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}

    def load_state(self, tensors: dict[str, torch.Tensor]) -> None:
        """The other way. Raises KeyError, ValueError or RuntimeError at another head's state."""
        own = {name.removeprefix(f"{self.plan.name}/"): tensor for name, tensor in tensors.items()}
        head = {name.removeprefix("head/"): tensor for name, tensor in own.items() if name.startswith("head/")}
        self.head.load_state_dict(head)
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in own.items():
            if name.startswith("optimizer/"):
                _, index, moment = name.split("/")
                moments.setdefault(int(index), {})[moment] = tensor
        for place, held in moments.items():  # the optimizer would take any shape and fail at its next step
            shape = self.parameters[place].shape
            if {name: m.shape for name, m in held.items()} != {"step": (), "exp_avg": shape, "exp_avg_sq": shape}:
                raise ValueError
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self.log, self.checks = own["log"].view(-1, 3).tolist(), own["checks"].view(-1, 2).tolist()
