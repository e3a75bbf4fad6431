"""The loss for targets that carry what a teacher says: labels and logits."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

Target = tuple[Tensor, Tensor]


def distilled_loss(share: float, temperature: float = 2.0) -> Callable[[Tensor, Target], Tensor]:
    """Cross entropy with the labels, and for ``share`` with the teacher's softened predictions."""

    def loss(logits: Tensor, targets: Target) -> Tensor:
        labels, taught = targets
        soft = -((taught / temperature).softmax(1) * (logits / temperature).log_softmax(1)).sum(1).mean()
        return (1 - share) * F.cross_entropy(logits, labels) + share * temperature**2 * soft

    return loss
