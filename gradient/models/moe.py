"""Mixtures of experts: a router chooses a few of many MLPs for each token.

Shazeer et al. 2017, "Outrageously Large Neural Networks: The Sparsely-Gated Mixture-of-Experts
Layer"; Fedus et al. 2022, "Switch Transformers"; Jiang et al. 2024, "Mixtral of Experts".

The tokens' rows are sorted by expert, so that each expert is one matrix product over its own rows;
experts without tokens compute nothing. Every expert is a module with its own weights.

Training needs an additional loss: otherwise the router sends ever more tokens to ever fewer
experts. `record_routing` collects the routers' logits for this loss:

>>> with record_routing(model) as routing:
...     logits = model(input_ids)
>>> loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), input_ids[:, 1:].flatten())
>>> loss = loss + model.config.router_aux_loss_coef * routing.load_balancing_loss()
>>> routing.tokens_per_expert()  # (layers, experts)

Dimensions:
    B  batch     T  tokens of a row      N  B T, all tokens    L  routers
    C  hidden    I  within an expert     E  experts            K  experts of each token
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import gradient
import gradient.functional as F
from gradient import nn
from gradient.errors import ArgumentError
from gradient.tensor import Tensor


class Router(nn.Linear):
    """Scores every expert for each token: a linear layer (N, C) -> (N, E) without a bias.

    Args:
        top_k: K, the number of experts for each token.
        normalize: make the K weights of a token sum to 1, which is the softmax over these K
            only (Jiang et al. 2024, section 2.1); else they are their parts of the softmax over
            all E.
    """

    def __init__(self, hidden: int, experts: int, *, top_k: int, normalize: bool) -> None:
        super().__init__(hidden, experts, bias=False)
        self.top_k, self.normalize = top_k, normalize

    def choose(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, E) -> weights (N, K) in float32 (or wider) and experts (N, K), best first."""
        weights, experts = probabilities(logits).topk(self.top_k, dim=-1)  # (N, K) each
        if self.normalize:
            weights = weights / weights.sum(-1, keepdim=True)
        return weights, experts

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, top_k={self.top_k}, normalize={self.normalize}"


def probabilities(logits: Tensor) -> Tensor:
    """Softmax over the experts, in float32 at least: (N, E) -> (N, E)."""
    return F.softmax(logits if logits.dtype == gradient.float64 else logits.float(), dim=-1)


class SparseMoe(nn.Module):
    """A router and its experts, instead of a decoder layer's MLP.

    Args:
        gate: the router.
        experts: E modules, each with three linear layers without biases, the parts of
            `down_proj(act(gate_proj(x)) * up_proj(x))` (Shazeer 2020, "GLU
            Variants"). A subclass whose checkpoints have other names sets `projections`.
        act: the activation.
        jitter: in training, inputs are multiplied by random numbers from 1 - jitter to 1 + jitter
            (Fedus et al. 2022, section 2.2).
    """

    #: The experts' layers: gate, up, down.
    projections: ClassVar[tuple[str, str, str]] = ("gate_proj", "up_proj", "down_proj")

    def __init__(
        self,
        gate: Router,
        experts: Sequence[nn.Module],
        act: Callable[[Tensor], Tensor],
        *,
        jitter: float = 0.0,
    ) -> None:
        super().__init__()
        self.gate = gate
        self.experts = nn.ModuleList(experts)
        self.act = act
        self.jitter = jitter

    def forward(self, x: Tensor) -> Tensor:
        """Return each token's experts' results, summed by their weights: (B, T, C) -> (B, T, C)."""
        if self.training and self.jitter:
            x = x * gradient.empty_like(x).uniform_(1 - self.jitter, 1 + self.jitter)
        rows = x.reshape(-1, x.shape[-1])  # (N, C)
        weights, experts = self.gate.choose(self.gate(rows))  # (N, K) each
        return self.mix(rows, weights, experts).reshape(x.shape)

    def mix(self, x: Tensor, weights: Tensor, experts: Tensor) -> Tensor:
        """Tokens (N, C), the weights and indices (N, K) of their experts -> (N, C)."""
        N, K = experts.shape
        by_token = experts.flatten()  # (N K,)
        by_expert = by_token.argsort(stable=True)  # the index in by_token of each row below
        counts = gradient.zeros(len(self.experts), dtype=gradient.int64, device=x.device)
        counts = counts.scatter_add(0, by_token, gradient.ones_like(by_token))  # (E,)
        gate, up, down = (
            [getattr(expert, name).weight for expert in self.experts] for name in self.projections
        )
        y = x[by_expert // K]  # (N K, C), sorted by expert
        y = self.act(F.grouped_linear(y, gate, counts)) * F.grouped_linear(y, up, counts)
        y = F.grouped_linear(y, down, counts)  # (N K, C)
        y = y[by_expert.argsort()].view(N, K, x.shape[-1])  # back in the order of tokens
        return (y * weights.unsqueeze(-1)).sum(1).to(x.dtype)


# ---- training -----------------------------------------------------------------------------------


class record_routing:  # noqa: N801 (a context manager, named like no_grad)
    """Collect the logits of a model's routers while the context is open.

    Args:
        model: any module with `Router`s inside.

    Several forward passes are added up. The collected logits keep the graph of those passes alive:
    drop the object with the losses.

    Example:
        >>> with record_routing(model) as routing:
        ...     logits = model(input_ids)
        >>> routing.load_balancing_loss().backward()
    """

    def __init__(self, model: nn.Module) -> None:
        self.routers = [module for module in model.modules() if isinstance(module, Router)]
        if not self.routers:
            raise ArgumentError(
                f"record_routing: {type(model).__name__} has no mixture of experts in it"
            )
        #: For each router, in the model's order: the logits (N, E) of each pass.
        self.logits: list[list[Tensor]] = [[] for _ in self.routers]
        self._hooks: list[Any] = []

    def __enter__(self) -> record_routing:
        for router, collected in zip(self.routers, self.logits, strict=True):

            def hook(module: nn.Module, args: Any, logits: Tensor, to: Any = collected) -> None:
                to.append(logits)

            self._hooks.append(router.register_forward_hook(hook))
        return self

    def __exit__(self, *exception: object) -> None:
        while self._hooks:
            self._hooks.pop().remove()

    def tokens_per_expert(self, mask: Tensor | None = None) -> Tensor:
        """Return the number of tokens of each expert of each router: (L, E), int64.

        Args:
            mask: as in `load_balancing_loss`.
        """
        loads = [self._loads(i, mask)[0] for i in range(len(self.routers))]
        return gradient.stack(loads).long()

    def load_balancing_loss(self, mask: Tensor | None = None) -> Tensor:
        """Return E * sum_e f_e P_e, smallest if all experts are chosen equally often: a scalar.

        f_e is the share of tokens that go to expert e, P_e its mean probability, both over the
        tokens of all layers (Fedus et al. 2022, equations 4 to 6). As a token goes to K experts,
        the f_e sum to K, and K is the minimum.

        Args:
            mask: (B, T) of the recorded tokens, True or 1 for real ones; None: all.
        """
        sums = [self._loads(i, mask) for i in range(len(self.routers))]
        tokens = sum(rows for _, _, rows in sums)
        f = sum(chosen for chosen, _, _ in sums) / tokens  # (E,)
        P = sum(probability for _, probability, _ in sums) / tokens  # (E,)
        return (f * P).sum() * f.shape[0]

    def z_loss(self) -> Tensor:
        """Return the mean squared log-sum-exp of the logits, which keeps them small: a scalar.

        Zoph et al. 2022, "ST-MoE", equation 5.
        """
        logits = gradient.cat([part.float() for parts in self.logits for part in parts])
        return logits.logsumexp(-1).square().mean()

    def _loads(self, router: int, mask: Tensor | None) -> tuple[Tensor, Tensor, Any]:
        """For one router: its experts' tokens (E,) and summed probabilities (E,); all tokens."""
        if not self.logits[router]:
            raise ArgumentError("record_routing: no tokens have passed the model in the context")
        logits = gradient.cat(self.logits[router])  # (N, E)
        p = probabilities(logits)
        experts = self.routers[router].choose(logits.detach())[1]  # (N, K)
        hot = gradient.zeros_like(p).scatter(1, experts, 1.0)  # (N, E), 1 where chosen
        if mask is None:
            return hot.sum(0), p.sum(0), p.shape[0]
        if mask.numel() != p.shape[0]:
            raise ArgumentError(
                f"mask: expected one element for each of the {p.shape[0]} recorded tokens, got "
                f"shape {tuple(mask.shape)}"
            )
        real = mask.reshape(-1, 1).to(p.dtype)
        return (hot * real).sum(0), (p * real).sum(0), real.sum()
