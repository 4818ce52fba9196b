"""Several heads for one conditional, LOMPO's ensemble: what data do not settle, they disagree about.

How large their disagreement is, and what it costs, is in learning/imagination.py.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaslac.networks.blocks import LEAK, STD_FLOOR, Gaussian, GaussianHead, glorot_
from metaslac.networks.latent_models.conditionals import DeltaHead, Distribution


class GaussianHeads(nn.Module):
    """K GaussianHeads of one shape, each with weights of its own, in one product a layer.

    A layer's weights are (K, outputs, inputs), its biases (K, outputs): those of head k are a GaussianHead's.
    """

    def __init__(
        self, count: int, inputs: int, hidden: int, outputs: int, std_floor: float = STD_FLOOR
    ) -> None:
        super().__init__()
        self.std_floor = std_floor
        sizes = list(pairwise((inputs, hidden, hidden, 2 * outputs)))
        heads = [[nn.Linear(*size).apply(glorot_) for size in sizes] for _ in range(count)]
        layers = list(zip(*heads, strict=True))
        self.weights = nn.ParameterList(
            torch.stack([one.weight.detach() for one in layer]) for layer in layers
        )
        self.biases = nn.ParameterList(torch.stack([one.bias.detach() for one in layer]) for layer in layers)

    def every(self, *inputs: Tensor) -> Gaussian:
        """What each of the K heads gives for the same inputs (B, .): (K, B, size)."""
        x = torch.cat(inputs, -1).expand(len(self.weights[0]), -1, -1)
        return self._through(x, list(self.weights), list(self.biases))

    def drawn(self, heads: Tensor, *inputs: Tensor) -> Gaussian:
        """What head `heads[t]` gives for the inputs of step t, (B, T, size): heads (T,), inputs (B, T, .).

        Weights are picked by a product with zeros and ones: its gradient sums the steps of a head in one
        order on every device, which that of indexing does not.
        """
        numbers = torch.arange(len(self.weights[0]), device=heads.device)
        pick = (heads[:, None] == numbers).to(self.weights[0].dtype)  # (T, K)
        weights, biases = (
            [torch.tensordot(pick, layer, 1) for layer in layers] for layers in (self.weights, self.biases)
        )
        mean, std = self._through(torch.cat(inputs, -1).transpose(0, 1), weights, biases)
        return Gaussian(mean.transpose(0, 1), std.transpose(0, 1))

    def _through(self, x: Tensor, weights: list[Tensor], biases: list[Tensor]) -> Gaussian:
        """Layers of G heads at once: x (G, B, inputs), weights (G, outputs, inputs), biases (G, outputs)."""
        for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            if layer:
                x = F.leaky_relu(x, LEAK)
            x = torch.baddbmm(bias[:, None], x, weight.transpose(1, 2))
        mean, raw = x.chunk(2, -1)
        return Gaussian(mean, F.softplus(raw) + self.std_floor)


Conditional = GaussianHead | GaussianHeads | DeltaHead


def drawn_head(conditional: Conditional, heads: Tensor | None, *inputs: Tensor) -> Distribution:
    """A conditional at every step, (B, T, size); of several heads those drawn for the steps, (T,)."""
    given: Distribution
    if isinstance(conditional, GaussianHeads):
        if heads is None:
            raise ValueError("an ensemble predicts by heads that are drawn for it")
        given = conditional.drawn(heads, *inputs)
    else:
        given = conditional(*inputs)
    return given


def every_head(conditional: Conditional, *inputs: Tensor) -> Distribution:
    """A conditional by every head it has, (K, B, size); K = 1 of one that is no ensemble."""
    if isinstance(conditional, GaussianHeads):
        return conditional.every(*inputs)
    given: Distribution = conditional(*inputs)
    return type(given)(*(part[None] for part in given))


def of_head(predictions: Distribution, head: Tensor | None) -> Distribution:
    """That of one head (), of all (K, B, size); of the first if none is said."""
    if head is None:
        return type(predictions)(*(part[0] for part in predictions))
    return type(predictions)(*(part.index_select(0, head.reshape(1))[0] for part in predictions))
