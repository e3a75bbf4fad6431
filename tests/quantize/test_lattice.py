"""Lattices: the engine and the twin agree bit for bit, points are nearest, dither is uniform over the cell."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nncodec import _core
from nncodec.reference import lattice as twin

NAMES = tuple(twin.DIMENSION)
# Normalised second moments (Conway and Sloane, Sphere Packings, Lattices and Groups, table 2.3).
MOMENT = {"z": 1 / 12, "a2": 0.080188, "d4": 0.076603, "e8": 0.071682, "leech": 0.065771}

Floats = NDArray[np.float64]


def nearest(name: str, x: Floats) -> Floats:
    out = np.full(x.size, np.nan)
    _core.lattice_nearest(name, np.ascontiguousarray(x.reshape(-1)), out)
    return out


def dither(name: str, key: int, first: int, vectors: int) -> Floats:
    out = np.full(vectors * twin.DIMENSION[name], np.nan)
    _core.lattice_dither(name, key, first, out)
    return out


def scales(name: str) -> Floats:
    return np.array([_core.lattice_scale(name, axis) for axis in range(twin.DIMENSION[name])])


@pytest.fixture
def isa_restored() -> Iterator[None]:
    before = _core.isa()
    yield
    _core.force_isa(before)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(NAMES), st.integers(0, 2**32 - 1), st.sampled_from([0.3, 2.0, 1e3, 2.0**28]))
def test_points_of_the_twin(name: str, seed: int, spread: float) -> None:
    x = np.random.default_rng(seed).normal(0, spread, 5 * twin.DIMENSION[name])
    assert nearest(name, x).tolist() == twin.nearest(name, x.tolist())


@pytest.mark.parametrize("name", NAMES)
def test_ties_are_broken_as_by_the_twin(name: str) -> None:
    """Multiples of 1/4 are often equally far from several points."""
    x = np.random.default_rng(3).integers(-9, 9, 4 * twin.DIMENSION[name]) / 4
    assert nearest(name, x).tolist() == twin.nearest(name, x.tolist())


@pytest.mark.parametrize("isa", _core.supported_isas())
@pytest.mark.parametrize("name", NAMES)
def test_every_isa_gives_the_same(name: str, isa: str, isa_restored: None) -> None:
    n = twin.DIMENSION[name]
    x = np.concatenate([np.random.default_rng(4).normal(0, 3, 203 * n), np.arange(11 * n) / 4])
    _core.force_isa("scalar")
    points, noise = nearest(name, x), dither(name, 5, 6, 99)
    _core.force_isa(isa)
    np.testing.assert_array_equal(nearest(name, x), points)
    np.testing.assert_array_equal(dither(name, 5, 6, 99), noise)


def minimal_vectors(name: str) -> Floats:
    """The shortest vectors, natural coordinates: those that bound the Voronoi cell (all of them, or a part)."""
    if name == "z":
        return np.array([[1.0], [-1.0]])
    if name in ("a2", "d4"):
        n = twin.DIMENSION[name]
        halves = np.array(list(itertools.product((-0.5, 0.5), repeat=n)))
        return (
            np.concatenate([halves, np.eye(n), -np.eye(n)])
            if name == "d4"
            else np.vstack([halves, [[1, 0], [-1, 0]]])
        )
    if name == "e8":
        pairs = [
            s * np.eye(8)[i] + t * np.eye(8)[j]
            for i, j in itertools.combinations(range(8), 2) for s in (1, -1) for t in (1, -1)
        ]  # fmt: skip
        halves = [h for h in itertools.product((-0.5, 0.5), repeat=8) if sum(h) % 2 == 0]
        return np.array(pairs + halves)
    octads = [word for b in range(1 << 12) if sum(word := twin.golay_word(b)) == 8]
    assert len(octads) == 759
    rng = np.random.default_rng(1)
    found = []
    for octad in octads:
        signs = np.ones(24)
        at = np.flatnonzero(octad)
        signs[at] = rng.choice([-1, 1], 8)
        if np.prod(signs[at]) < 0:
            signs[at[0]] *= -1
        found.append(2 * np.array(octad) * signs)
    for i, j in itertools.combinations(range(24), 2):
        pair = np.zeros(24)
        pair[[i, j]] = rng.choice([-4.0, 4.0], 2)
        found.append(pair)
    for b in rng.integers(0, 1 << 12, 500):
        odd = np.where(twin.golay_word(int(b)), -1.0, 1.0)
        at = rng.integers(24)
        odd[at] = odd[at] - 4 if odd[at] > 0 else odd[at] + 4
        found.append(odd)
    return np.array(found)


@pytest.mark.parametrize("name", NAMES)
def test_nearest_is_nearest(name: str) -> None:
    """No point one minimal vector away is nearer, and minimal vectors are points of the lattice."""
    n, scale = twin.DIMENSION[name], scales(name)
    minimal = minimal_vectors(name)
    np.testing.assert_array_equal(nearest(name, minimal), minimal.reshape(-1))
    lengths = ((minimal * scale) ** 2).sum(1)
    np.testing.assert_allclose(lengths, lengths[0], rtol=1e-12)
    # The error is at least as short as from any neighbour: the cell is bounded by these half-spaces.
    x = np.random.default_rng(2).normal(0, 2, (200, n))
    error = (x - nearest(name, x).reshape(-1, n)) * scale
    assert (error @ (minimal * scale).T <= lengths / 2 * (1 + 1e-12)).all()


@pytest.mark.parametrize("name", NAMES)
def test_cells_have_volume_one(name: str) -> None:
    """Second moment of the error of a spread-out source: that of the lattice at volume 1."""
    n = twin.DIMENSION[name]
    vectors = 240_000 // n
    x = np.random.default_rng(7).uniform(-100, 100, (vectors, n))
    error = (x - nearest(name, x).reshape(-1, n)) * scales(name)
    assert (error**2).mean() == pytest.approx(MOMENT[name], rel=0.008)


@settings(max_examples=10, deadline=None)
@given(st.sampled_from(NAMES), st.integers(0, 2**64 - 1), st.integers(0, 2**40))
def test_dither_of_the_twin(name: str, key: int, first: int) -> None:
    assert dither(name, key, first, 3).tolist() == twin.dither(name, key, first, 3)
    assert _core.lattice_random_bits(key, first) == twin.random_bits(key, first)


@pytest.mark.parametrize("name", NAMES)
def test_dither_depends_on_the_vector_alone(name: str) -> None:
    n = twin.DIMENSION[name]
    whole = dither(name, 11, 0, 50)
    np.testing.assert_array_equal(dither(name, 11, 17, 20), whole[17 * n : 37 * n])
    assert not np.array_equal(dither(name, 12, 0, 50), whole)


SOURCES = ("gaussian", "laplacian", "bimodal", "constant")


def source(kind: str, n: int) -> Floats:
    rng = np.random.default_rng(9)
    if kind == "gaussian":
        return rng.normal(0, 0.7, n)
    if kind == "laplacian":
        return rng.laplace(0, 0.4, n)
    if kind == "bimodal":
        return np.where(rng.random(n) < 0.5, -0.3, 0.3) + rng.normal(0, 0.01, n)
    return np.full(n, 0.3)


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("name", NAMES)
def test_error_after_subtractive_dither(name: str, kind: str) -> None:
    """Mean 0, second moment of the lattice, uniform over the cell, uncorrelated: whatever the source."""
    n = twin.DIMENSION[name]
    vectors = {"z": 400_000, "leech": 24_000}.get(name, 480_000 // n)
    x = source(kind, vectors * n)
    scale = np.tile(scales(name), vectors)
    noise = dither(name, 123, 0, vectors)
    natural = x / scale
    error = (nearest(name, natural + noise) - noise - natural) * scale
    count = error.size
    deviation = np.sqrt(MOMENT[name])
    assert abs(error.mean()) < 4 * deviation / np.sqrt(count)
    assert (error**2).mean() == pytest.approx(MOMENT[name], rel=0.005)
    if kind != "constant":
        correlation = np.corrcoef(error, x)[0, 1]
        assert abs(correlation) < 3 / np.sqrt(count)
    # Uniform over the cell: the same quantiles as dither itself has, which is uniform by construction.
    other = dither(name, 321, 10**6, vectors) * scale
    for axis in range(min(n, 2)):
        a, b = np.sort(error[axis::n]), np.sort(other[axis::n])
        grid = np.concatenate([a, b])
        gap = np.abs(np.searchsorted(a, grid) - np.searchsorted(b, grid)).max() / len(a)
        assert gap < 2.2 * np.sqrt(2 / len(a))  # Kolmogorov and Smirnov, one in ten thousand


def test_without_dither_the_error_follows_the_source() -> None:
    """What dither is for: a constant source has a constant error, a bimodal one a correlated error."""
    constant = source("constant", 1000)
    assert np.ptp(nearest("z", constant) - constant) == 0
    bimodal = source("bimodal", 10_000)
    assert abs(np.corrcoef(nearest("z", bimodal) - bimodal, bimodal)[0, 1]) > 0.5


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(NAMES), st.integers(0, 2**32 - 1), st.sampled_from([0.5, 5.0, 1e6]))
def test_points_as_integers(name: str, seed: int, spread: float) -> None:
    n = twin.DIMENSION[name]
    point = nearest(name, np.random.default_rng(seed).normal(0, spread, n))
    coset, integers = _core.lattice_code(name, point)
    assert (coset, integers) == twin.code_of(name, point.tolist())
    assert coset < 1 << twin.COSET_BITS[name]
    assert _core.lattice_point(name, coset, integers) == point.tolist()
    axes, again = twin.Axes(name, coset), []
    for integer in integers:
        again.append(twin.coordinate(name, axes.kind(), integer))
        axes.take(integer)
    assert again == point.tolist()


def test_every_coset_and_integer_is_a_point() -> None:
    rng = np.random.default_rng(5)
    for name in NAMES:
        for _ in range(30):
            coset = int(rng.integers(1 << twin.COSET_BITS[name]))
            integers = rng.integers(-3, 4, twin.DIMENSION[name]).tolist()
            point = np.array(_core.lattice_point(name, coset, integers))
            np.testing.assert_array_equal(nearest(name, point), point)
            assert _core.lattice_code(name, point) == (coset, integers)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="lattice must be"):
        _core.lattice_nearest("b3", np.zeros(3), np.zeros(3))
    with pytest.raises(ValueError, match="no multiple of 8"):
        _core.lattice_nearest("e8", np.zeros(9), np.zeros(9))
    with pytest.raises(ValueError, match="as large"):
        _core.lattice_nearest("z", np.zeros(9), np.zeros(8))
    with pytest.raises(ValueError, match="beyond"):
        _core.lattice_nearest("z", np.array([np.nan]), np.zeros(1))
    with pytest.raises(ValueError, match="do not fit"):
        _core.lattice_point("d4", 2, [0, 0, 0, 0])
