"""Weights that a few free numbers generate: structured matrices, and the nearest one to a given weight.

Each class is a structure: :meth:`~Structure.numbers` are the free numbers of the weight nearest to a given one in the
Frobenius norm, :meth:`~Structure.expand` is the weight that they generate. All are optimal in closed form. A weight of
shape (outputs, inputs, ...) is a matrix, what follows the first two sizes being the pixels of a kernel.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["BlockCirculant", "DepthwiseSeparable", "Hashed", "Kronecker", "Monarch", "Structure"]


class Structure(ABC):
    """Base of all structures."""

    @abstractmethod
    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether a weight of this shape can have the structure."""

    @abstractmethod
    def numbers(self, weight: Tensor) -> tuple[Tensor, ...]:
        """Free numbers of the nearest weight that has the structure."""

    @abstractmethod
    def expand(self, numbers: tuple[Tensor, ...], shape: tuple[int, ...]) -> Tensor:
        """The weight; differentiable in the numbers."""

    def project(self, weight: Tensor) -> Tensor:
        """The nearest weight that has the structure. ValueError where the shape does not allow it."""
        shape = tuple(weight.shape)
        if not self.fits(shape):
            raise ValueError(f"a weight of shape {shape} cannot be {self}")
        return self.expand(self.numbers(weight), shape)


@dataclass(frozen=True)
class BlockCirculant(Structure):
    """Square blocks of ``block`` outputs and inputs, each row the one before moved by one (CirCNN, arXiv:1708.08917).

    The kernels' pixels each have blocks of their own. Numbers are (pixels, outputs / block, inputs / block, block): the
    first column of each block.
    """

    block: int = 4

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether blocks divide both sides."""
        return len(shape) > 1 and self.block > 1 and shape[0] % self.block == 0 == shape[1] % self.block

    def numbers(self, weight: Tensor) -> tuple[Tensor, ...]:
        """Means along the wrapped diagonals."""
        blocks = self._blocks(weight)
        index = self._index(weight.device)
        # Entry (i, j) of a block is number (i - j) mod b, so row i, column (i - k) mod b is number k.
        rows = torch.arange(self.block, device=weight.device)
        return (blocks[..., rows[:, None], index].mean(-2),)

    def expand(self, numbers: tuple[Tensor, ...], shape: tuple[int, ...]) -> Tensor:
        """Every block from its first column."""
        (first,) = numbers
        b = self.block
        blocks = first[..., self._index(first.device)]  # [i, j] = (i - j) mod b
        pixels, p, q = first.shape[:3]
        matrix = blocks.permute(1, 3, 2, 4, 0).reshape(p * b, q * b, pixels)
        return matrix.reshape(shape)

    def multiply(self, numbers: tuple[Tensor, ...], x: Tensor) -> Tensor:
        """The product with vectors x (..., inputs) of a structured matrix, by fast Fourier transforms of the blocks."""
        (first,) = numbers
        if len(first) != 1:
            raise ValueError("multiply is for matrices, not for kernels")
        spectra = torch.fft.rfft(first[0])  # (p, q, b / 2 + 1)
        inputs = torch.fft.rfft(x.reshape(*x.shape[:-1], first.shape[2], self.block))
        outputs = torch.fft.irfft(torch.einsum("pqf,...qf->...pf", spectra, inputs), n=self.block)
        return outputs.reshape(*x.shape[:-1], -1)

    def _index(self, device: torch.device) -> Tensor:
        along = torch.arange(self.block, device=device)
        return (along[:, None] - along[None, :]) % self.block

    def _blocks(self, weight: Tensor) -> Tensor:
        b = self.block
        outputs, inputs = weight.shape[:2]
        return weight.reshape(outputs // b, b, inputs // b, b, -1).permute(4, 0, 2, 1, 3)


@dataclass(frozen=True)
class Kronecker(Structure):
    """A sum of ``terms`` Kronecker products of an (outputs, inputs) matrix with another, or with a kernel.

    By the singular values of the rearranged matrix (Van Loan and Pitsianis 1993). ``outputs`` and ``inputs`` are
    the sizes of the first factor; 0: near the square root of the weight's.
    """

    outputs: int = 0
    inputs: int = 0
    terms: int = 1

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether the first factor's sizes divide the weight's, neither factor being the whole."""
        if len(shape) < 2 or 0 in shape or self.terms < 1:
            return False
        m, n = self._sizes(shape)
        whole = shape[0] % m == 0 == shape[1] % n
        return (
            whole and 1 < m * n < shape[0] * shape[1] and self.terms < min(m * n, math.prod(shape) // (m * n))
        )

    def numbers(self, weight: Tensor) -> tuple[Tensor, ...]:
        """Left factors (terms, m, n) and right ones (terms, outputs / m, inputs / n, *kernel), equally long."""
        m, n = self._sizes(tuple(weight.shape))
        outputs, inputs = weight.shape[0] // m, weight.shape[1] // n
        kernel = weight.shape[2:]
        rearranged = weight.reshape(m, outputs, n, inputs, -1).permute(0, 2, 1, 3, 4).reshape(m * n, -1)
        left, right = _leading(rearranged, self.terms)
        return left.T.reshape(-1, m, n), right.reshape(-1, outputs, inputs, *kernel)

    def expand(self, numbers: tuple[Tensor, ...], shape: tuple[int, ...]) -> Tensor:
        """The sum of products."""
        left, right = numbers
        flat = right.reshape(*right.shape[:3], -1)
        return torch.einsum("tmn,toip->monip", left, flat).reshape(shape)

    def _sizes(self, shape: tuple[int, ...]) -> tuple[int, int]:
        return self.outputs or _near_root(shape[0]), self.inputs or _near_root(shape[1])


@dataclass(frozen=True)
class Monarch(Structure):
    """Two block-diagonal matrices with a transposition between (Dao et al., arXiv:2204.00595).

    Inputs are cut into ``blocks`` runs, each of which has a matrix to ``blocks`` numbers; those of the same place in
    all runs have a matrix to the outputs that are equal modulo ``blocks``. 0: near the square root of the outputs.
    Kernels are flattened with the inputs.
    """

    blocks: int = 0

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether blocks divide both sides."""
        if len(shape) < 2 or 0 in shape:
            return False
        b = self._count(shape)
        return b > 1 and shape[0] % b == 0 and math.prod(shape[1:]) % b == 0

    def numbers(self, weight: Tensor) -> tuple[Tensor, ...]:
        """Second matrices (place, outputs / b, run) and first ones (run, place, inputs / b)."""
        b = self._count(tuple(weight.shape))
        slices = weight.reshape(weight.shape[0] // b, b, b, -1).permute(
            1, 2, 0, 3
        )  # place, run, outputs, inputs
        u, s, vh = torch.linalg.svd(slices, full_matrices=False)
        root = s[..., :1].sqrt()
        second = (u[..., 0] * root).transpose(1, 2)
        first = (vh[..., 0, :] * root).transpose(0, 1)
        return second.contiguous(), first.contiguous()

    def expand(self, numbers: tuple[Tensor, ...], shape: tuple[int, ...]) -> Tensor:
        """The product of both."""
        second, first = numbers
        return torch.einsum("jlk,kji->ljki", second, first).reshape(shape)

    def _count(self, shape: tuple[int, ...]) -> int:
        if self.blocks:
            return self.blocks
        return _near_root(math.gcd(shape[0], math.prod(shape[1:])))


@dataclass(frozen=True)
class DepthwiseSeparable(Structure):
    """Kernels that are combinations of ``terms`` per input channel: a depthwise convolution, then 1 x 1."""

    terms: int = 1

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether there are kernels, and fewer terms than would make all of them."""
        return len(shape) > 2 and 1 <= self.terms < min(shape[0], math.prod(shape[2:]))

    def numbers(self, weight: Tensor) -> tuple[Tensor, ...]:
        """Kernels (inputs, terms, *kernel) and combinations (outputs, inputs, terms)."""
        per_input = weight.flatten(2).transpose(0, 1)  # inputs, outputs, pixels
        u, s, vh = torch.linalg.svd(per_input, full_matrices=False)
        root = s[:, : self.terms].sqrt()
        kernels = (root[:, :, None] * vh[:, : self.terms]).reshape(
            weight.shape[1], self.terms, *weight.shape[2:]
        )
        return kernels, (u[:, :, : self.terms] * root[:, None, :]).transpose(0, 1).contiguous()

    def expand(self, numbers: tuple[Tensor, ...], shape: tuple[int, ...]) -> Tensor:
        """All kernels."""
        kernels, combinations = numbers
        return torch.einsum("itp,oit->oip", kernels.flatten(2), combinations).reshape(shape)


@dataclass(frozen=True)
class Hashed(Structure):
    """``buckets`` numbers, one of which each weight has, by a hash of its place (HashedNets, arXiv:1504.04788).

    Places are shuffled over the buckets, so that each has as many weights as any other, but for one.
    """

    buckets: int = 256
    seed: int = 0

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether there are more weights than buckets."""
        return len(shape) > 1 and 1 <= self.buckets < math.prod(shape)

    def numbers(self, weight: Tensor) -> tuple[Tensor, ...]:
        """Means of the buckets."""
        index = self._index(weight.numel(), weight.device)
        sums = torch.zeros(self.buckets, dtype=torch.float64, device=weight.device)
        sums.index_add_(0, index, weight.reshape(-1).double())
        return ((sums / torch.bincount(index, minlength=self.buckets)).to(weight.dtype),)

    def expand(self, numbers: tuple[Tensor, ...], shape: tuple[int, ...]) -> Tensor:
        """Every weight from its bucket."""
        (values,) = numbers
        return values[self._index(math.prod(shape), values.device)].reshape(shape)

    def _index(self, count: int, device: torch.device) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed)
        return (torch.randperm(count, generator=generator) % self.buckets).to(device)


def _leading(matrix: Tensor, terms: int) -> tuple[Tensor, Tensor]:
    """Both sides of the leading singular values, their roots on either: (rows, terms) and (terms, columns)."""
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    root = s[:terms].sqrt()
    return u[:, :terms] * root, root[:, None] * vh[:terms]


def _near_root(size: int) -> int:
    """The divisor nearest to the square root."""
    divisors = [d for d in range(1, size + 1) if size % d == 0]
    return min(divisors, key=lambda d: abs(math.log(d * d / size)))
