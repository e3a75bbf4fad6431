"""rANS of base-3^5 bytes in plain Python. Bytes: docs/format.md, "Ternary rANS"."""

from __future__ import annotations

__all__ = ["CONTEXTS", "DENSITIES", "context_of", "decode", "encode", "nearest_density", "table"]

CONTEXTS = 8
DENSITIES = 72
_LOWEST = 1 << 16
_WEIGHTS = (81, 27, 9, 3, 1)

_DENSITY = [31 << 27]
while len(_DENSITY) < DENSITIES:
    _DENSITY.append(_DENSITY[-1] * 55109 >> 16)


def table(density: int) -> tuple[list[int], list[int]]:
    """Starts and frequencies of the 32 patterns, out of 2^16."""
    other = _DENSITY[density]
    zero = (1 << 32) - other
    of_count = []
    for j in range(6):
        product = 1 << 32
        for k in range(5):
            product = product * (other if k < j else zero) >> 32
        of_count.append(max(1, product >> 16))
    frequency = [of_count[bin(pattern).count("1")] for pattern in range(32)]
    rest = 31 if other > zero else 0
    frequency[rest] = 0
    frequency[rest] = (1 << 16) - sum(frequency)
    return [sum(frequency[:pattern]) for pattern in range(32)], frequency


def nearest_density(others: int, digits: int) -> int:
    """The density for a share of others / digits: a writer's choice."""
    for d in range(DENSITIES - 1):
        if others << 32 >= (_DENSITY[d] + _DENSITY[d + 1]) // 2 * digits:
            return d
    return DENSITIES - 1


def context_of(history: int) -> int:
    """The octave of a decaying count."""
    return min((history >> 3).bit_length(), CONTEXTS - 1)


def _after(history: int, pattern: int) -> int:
    return history + 32 * bin(pattern).count("1") - (history >> 3)


def _split(byte: int) -> tuple[int, list[int]]:
    """Pattern of the digits that are not zero, and their signs (1: minus)."""
    digits = [byte // weight % 3 for weight in _WEIGHTS]
    pattern = sum(1 << (4 - k) for k, digit in enumerate(digits) if digit != 1)
    return pattern, [int(digit == 0) for digit in digits if digit != 1]


def encode(packed: bytes) -> bytes:
    """Header, densities, lane states, words, signs."""
    split = [_split(byte) for byte in packed]
    others = sum(len(signs) for _, signs in split)
    lanes_log2 = 0 if others < 2048 else 2 if others < 8192 else 3
    contexts = CONTEXTS if others >= 192 else 1
    lanes, n = 1 << lanes_log2, len(packed)
    stretch = -(-n // lanes)

    context = [0] * n
    counts = [[0, 0] for _ in range(CONTEXTS)]
    for lane in range(lanes):
        history = 0
        for i in range(lane * stretch, min(n, (lane + 1) * stretch)):
            context[i] = context_of(history) if contexts > 1 else 0
            history = _after(history, split[i][0])
            counts[context[i]][0] += 5
            counts[context[i]][1] += len(split[i][1])
    densities = [
        nearest_density(counts[c][1], counts[c][0]) if counts[c][0] else DENSITIES - 1
        for c in range(contexts)
    ]
    tables = [table(d) for d in densities]

    states, words = [_LOWEST] * lanes, []
    for step in reversed(range(stretch)):
        for lane in reversed(range(lanes)):
            i = lane * stretch + step
            if i >= min(n, (lane + 1) * stretch):
                continue
            start, frequency = (column[split[i][0]] for column in tables[context[i]])
            if states[lane] >= frequency << 16:
                words.append(states[lane] & 0xFFFF)
                states[lane] >>= 16
            states[lane] = (states[lane] // frequency << 16) + states[lane] % frequency + start
    out = bytearray([lanes_log2 | (8 if contexts > 1 else 0), *densities])
    for state in states:
        out += state.to_bytes(4, "little")
    for word in reversed(words):
        out += word.to_bytes(2, "little")
    signs = [sign for _, of in split for sign in of]
    value = sum(sign << place for place, sign in enumerate(signs))
    return bytes(out) + value.to_bytes(-(-len(signs) // 8), "little")


def decode(stream: bytes, n: int) -> bytes:
    """The ``n`` bytes of :func:`encode`; ValueError unless the stream is whole and ends there."""
    lanes, contexts = 1 << (stream[0] & 7), CONTEXTS if stream[0] & 8 else 1
    tables = [table(d) for d in stream[1 : 1 + contexts]]
    at = 1 + contexts
    states = [int.from_bytes(stream[at + 4 * lane : at + 4 * lane + 4], "little") for lane in range(lanes)]
    at += 4 * lanes
    stretch = -(-n // lanes)
    patterns, histories = [0] * n, [0] * lanes
    for step in range(stretch):
        for lane in range(lanes):
            i = lane * stretch + step
            if i >= min(n, (lane + 1) * stretch):
                continue
            start, frequency = tables[context_of(histories[lane]) if contexts > 1 else 0]
            slot = states[lane] & 0xFFFF
            pattern = sum(1 for s in start if s <= slot) - 1
            states[lane] = frequency[pattern] * (states[lane] >> 16) + slot - start[pattern]
            histories[lane] = _after(histories[lane], pattern)
            patterns[i] = pattern
            if states[lane] < _LOWEST:
                if at + 2 > len(stream):
                    raise ValueError("ternary rANS: truncated")
                states[lane] = states[lane] << 16 | int.from_bytes(stream[at : at + 2], "little")
                at += 2
    signs = int.from_bytes(stream[at:], "little")
    if any(state != _LOWEST for state in states) or 8 * (len(stream) - at) - sum(
        bin(p).count("1") for p in patterns
    ) not in range(8):
        raise ValueError("ternary rANS: corrupt")
    out = bytearray()
    for pattern in patterns:
        byte = 121
        for k, weight in enumerate(_WEIGHTS):
            if pattern >> (4 - k) & 1:
                byte += -weight if signs & 1 else weight
                signs >>= 1
        out.append(byte)
    if signs:
        raise ValueError("ternary rANS: corrupt")
    return bytes(out)
