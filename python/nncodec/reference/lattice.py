"""Lattices: nearest points, dither, points as integers. Arithmetic: docs/format.md, "Lattices".

Points are in natural coordinates. Python floats are binary64, and every sum is taken in the order of the text, so
results are those of the engine bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

__all__ = ["DIMENSION", "Axes", "code_of", "coordinate", "dither", "golay_word", "nearest", "random_bits"]

DIMENSION = {"z": 1, "a2": 2, "d4": 4, "e8": 8, "leech": 24}
COSET_BITS = {"z": 0, "a2": 1, "d4": 1, "e8": 1, "leech": 13}
BOX_SIDE = {"z": 1.0, "a2": 1.0, "d4": 1.0, "e8": 2.0, "leech": 8.0}
AXIS_WEIGHT = {"a2": (1.0, 3.0)}
MASK = (1 << 64) - 1
GRAIN_BITS = 20

Vector = Sequence[float]
Pair = tuple[int, int]
STATES: tuple[Pair, ...] = tuple(product((0, 1), (0, 1)))


# --- nearest points


def nearest(lattice: str, x: Vector) -> list[float]:
    """The nearest points of the vectors that follow each other in ``x``."""
    n = DIMENSION[lattice]
    find = {"z": _integers, "e8": _nearest_e8, "leech": _nearest_leech}.get(lattice, _nearest_of_two)
    weight = AXIS_WEIGHT.get(lattice, (1.0,) * n)
    return [value for i in range(0, len(x), n) for value in find(x[i : i + n], weight)]


def _integers(x: Vector, weight: Vector = ()) -> list[float]:
    return [float(round(v)) for v in x]  # ties to even


def _distance(x: Vector, point: Vector, weight: Vector) -> float:
    total = 0.0
    for v, p, w in zip(x, point, weight, strict=True):
        total += (v - p) * (v - p) * w
    return total


def _nearest_of_two(x: Vector, weight: Vector) -> list[float]:
    whole = _integers(x)
    half = [v + 0.5 for v in _integers([v - 0.5 for v in x])]
    return half if _distance(x, half, weight) < _distance(x, whole, weight) else whole


def _nearest_d8(x: Vector) -> list[float]:
    point = _integers(x)
    if sum(point) % 2:
        errors = [abs(v - p) for v, p in zip(x, point, strict=True)]
        i = errors.index(max(errors))
        point[i] += -1.0 if x[i] - point[i] < 0 else 1.0
    return point


def _nearest_e8(x: Vector, weight: Vector) -> list[float]:
    whole = _nearest_d8(x)
    half = [v + 0.5 for v in _nearest_d8([v - 0.5 for v in x])]
    return half if _distance(x, half, weight) < _distance(x, whole, weight) else whole


# --- Leech


def _times(a: int, b: int) -> int:
    return 0 if a == 0 or b == 0 else (a + b - 2) % 3 + 1


HEXACODE = [
    (a, b, c, *(_times(a, _times(x, x)) ^ _times(b, x) ^ c for x in (1, 2, 3)))
    for a, b, c in product(range(4), repeat=3)
]
COLUMNS = {
    (sum(bits) % 2, bits[1] ^ 2 * bits[2] ^ 3 * bits[3], bits[0]): bits for bits in product((0, 1), repeat=4)
}


class _Cell:
    """A column with a digit: the cheapest way to each top bit and parity."""

    def __init__(self, x: Vector, m: int, parity: int, digit: int) -> None:
        self.cost: dict[Pair, float] = {}
        self.points: dict[Pair, list[float]] = {}
        for top in (0, 1):
            bits = COLUMNS[parity, digit, top]
            bases = [m + 2.0 * bit for bit in bits]
            scaled = [(v - base) * 0.25 for v, base in zip(x, bases, strict=True)]
            z = _integers(scaled)
            errors = [v - n for v, n in zip(scaled, z, strict=True)]
            squares = [e * e for e in errors]
            cost = (squares[0] + squares[1]) + (squares[2] + squares[3])
            more = [1.0 - (abs(e) + abs(e)) for e in errors]
            odd = int(sum(z) % 2)
            self.cost[top, odd] = cost
            self.cost[top, 1 - odd] = cost + min(more)
            self.points[top, odd] = [base + 4.0 * n for base, n in zip(bases, z, strict=True)]
            weakest = more.index(min(more))
            z[weakest] += -1.0 if errors[weakest] < 0 else 1.0
            self.points[top, 1 - odd] = [base + 4.0 * n for base, n in zip(bases, z, strict=True)]


Costs = dict[Pair, float]


def _minus(a: Pair, b: Pair) -> Pair:
    return a[0] ^ b[0], a[1] ^ b[1]


def _cheapest(left: Costs, right: Costs, wanted: Pair) -> tuple[float, Pair]:
    """Least sum of a left and a right cost whose states add up to ``wanted``, and the first left state that has it."""
    sums = [(left[state] + right[_minus(wanted, state)], state) for state in STATES]
    return min(sums, key=lambda entry: entry[0])


def _joined(left: Costs, right: Costs) -> Costs:
    return {wanted: _cheapest(left, right, wanted)[0] for wanted in STATES}


def _nearest_leech(x: Vector, weight: Vector) -> list[float]:
    best = float("inf")
    for m, parity in product((0, 1), (0, 1)):
        cells = [[_Cell(x[4 * c : 4 * c + 4], m, parity, d) for d in range(4)] for c in range(6)]
        pairs = [
            {
                (a, b): _joined(cells[2 * p][a].cost, cells[2 * p + 1][b].cost)
                for a in range(4)
                for b in range(4)
            }
            for p in range(3)
        ]
        for word in HEXACODE:
            halves = [pairs[p][word[2 * p], word[2 * p + 1]] for p in range(3)]
            four = _joined(halves[0], halves[1])
            cost, _ = _cheapest(four, halves[2], (parity, m))
            if cost < best:
                best = cost
                chosen = (cells, word, halves, four, (parity, m))
    cells, word, halves, four, wanted = chosen
    head = _cheapest(four, halves[2], wanted)[1]
    first = _cheapest(halves[0], halves[1], head)[1]
    point: list[float] = []
    for p, state in enumerate((first, _minus(head, first), _minus(wanted, head))):
        left, right = cells[2 * p][word[2 * p]], cells[2 * p + 1][word[2 * p + 1]]
        of_left = _cheapest(left.cost, right.cost, state)[1]
        point += left.points[of_left] + right.points[_minus(state, of_left)]
    return point


# --- dither


def random_bits(key: int, counter: int) -> int:
    """64 bits of the generator."""
    x = (key + (counter + 1) * 0x9E3779B97F4A7C15) & MASK
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ x >> 27) * 0x94D049BB133111EB & MASK
    return x ^ x >> 31


def dither(lattice: str, key: int, first: int, vectors: int) -> list[float]:
    """Dither of the vectors ``first``, ``first + 1``, ..."""
    n = DIMENSION[lattice]
    draws = -(-n // 3)
    grain = BOX_SIDE[lattice] / (1 << GRAIN_BITS)
    out: list[float] = []
    for vector in range(first, first + vectors):
        bits = [random_bits(key, vector * draws + d) for d in range(draws)]
        whole = [bits[i // 3] >> GRAIN_BITS * (i % 3) & (1 << GRAIN_BITS) - 1 for i in range(n)]
        y = [(v + 0.5) * grain for v in whole]
        out += [v - p for v, p in zip(y, nearest(lattice, y), strict=True)]
    return out


# --- points as integers


def golay_word(bits: int) -> tuple[int, ...]:
    """The 24 bits of the Golay codeword with these 12."""
    parity, tops = bits & 1, [bits >> 7 + c & 1 for c in range(5)]
    tops.append((sum(tops) + parity) % 2)
    word = HEXACODE[bits >> 1 & 63]
    return tuple(bit for digit, top in zip(word, tops, strict=True) for bit in COLUMNS[parity, digit, top])


class Axes:
    """The kind of each axis in turn."""

    def __init__(self, lattice: str, coset: int) -> None:
        self.lattice, self.coset, self.axis = lattice, coset, 0
        self.parity = coset & 1 if lattice == "leech" else 0
        self.word = golay_word(coset >> 1) if lattice == "leech" else ()

    def kind(self) -> int:
        last = self.axis + 1 == DIMENSION[self.lattice]
        if self.lattice == "z":
            return 0
        if self.lattice == "leech":
            add = (self.coset & 1) + 2 * self.word[self.axis]
            return 4 + 4 * self.parity + add if last else add
        add = 2 * self.coset
        return 4 + 4 * self.parity + add if last and self.lattice == "e8" else add

    def take(self, integer: int) -> None:
        self.parity ^= integer & 1
        self.axis += 1


def quarters(kind: int, integer: int) -> int:
    """Four times the coordinate (Leech: the coordinate)."""
    return 4 * integer + kind if kind < 4 else 8 * integer + kind - 4


def coordinate(lattice: str, kind: int, integer: int) -> float:
    """The coordinate of an axis of this kind."""
    return quarters(kind, integer) * (1.0 if lattice == "leech" else 0.25)


def code_of(lattice: str, point: Vector) -> tuple[int, list[int]]:
    """Coset and integers of a point."""
    coset = 0
    if lattice == "leech":
        m = int(point[0]) & 1
        bits = [(int(v) - m) // 2 % 2 for v in point]
        columns = [bits[i : i + 4] for i in range(0, 24, 4)]
        digits = [c[1] ^ 2 * c[2] ^ 3 * c[3] for c in columns]
        golay = sum(columns[0]) % 2 | (16 * digits[0] + 4 * digits[1] + digits[2]) << 1
        golay |= sum(column[0] << 7 + c for c, column in enumerate(columns[:5]))
        coset = m | golay << 1
    elif lattice != "z":
        coset = int(2 * point[0]) & 1
    axes, integers = Axes(lattice, coset), []
    for v in point:
        kind = axes.kind()
        quarter = int(v * (1 if lattice == "leech" else 4))
        integers.append(quarter - kind >> 2 if kind < 4 else quarter - (kind - 4) >> 3)
        axes.take(integers[-1])
    return coset, integers
