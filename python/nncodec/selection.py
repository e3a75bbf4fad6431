"""Which codec a tensor gets: the ``codec=`` argument."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from fnmatch import translate

from nncodec.codecs import CODECS, Codec
from nncodec.dtypes import DType

__all__ = ["CodecLike", "Selection", "resolve_codec"]

CodecLike = str | Codec | Mapping[str, str | Codec]

DEFAULT = "lossless"
_CATCH_ALL = frozenset(("*", "**"))
_GLOB = re.compile(r"[*?[]")


def resolve_codec(codec: str | Codec) -> Codec:
    """An options object from a name (with default options) or from itself."""
    if isinstance(codec, Codec):
        return codec
    if isinstance(codec, str):
        if codec not in CODECS:
            raise ValueError(f"codec {codec!r} is unknown; there are {', '.join(sorted(CODECS))}")
        return CODECS[codec]()
    raise TypeError(
        f"codec must be a name, an options object or a mapping of patterns to either, not {codec!r}"
    )


@dataclass(frozen=True)
class Rule:
    """A glob pattern over names, and what its tensors get."""

    pattern: str
    codec: Codec

    @property
    def named(self) -> bool:
        """Whether the pattern names tensors, rather than taking all."""
        return self.pattern not in _CATCH_ALL


class Selection:
    """The rules of one ``codec=`` argument; the first that matches a name, or is that very name, wins.

    A tensor that no lossy codec should touch (no float, or of fewer than two dimensions, such as biases and
    norms) gets ``lossless`` unless a pattern other than ``*`` names it; so does what no pattern matches.
    """

    def __init__(self, codec: CodecLike) -> None:
        if isinstance(codec, Mapping):
            for pattern in codec:
                if not isinstance(pattern, str):
                    raise TypeError(f"codec: patterns are strings, not {pattern!r}")
            self.rules = [Rule(pattern, resolve_codec(choice)) for pattern, choice in codec.items()]
        else:
            self.rules = [Rule("*", resolve_codec(codec))]
        self._default = resolve_codec(DEFAULT)
        # There may be a rule for each of many tensors: those that are no glob are found by name.
        self._exact = {rule.pattern: number for number, rule in enumerate(self.rules)}
        self._globs = {
            n: _matcher(rule.pattern) for n, rule in enumerate(self.rules) if _GLOB.search(rule.pattern)
        }
        self._used: set[int] = set()

    @property
    def lossy(self) -> bool:
        """Whether any rule has a lossy codec."""
        return any(rule.codec.lossy for rule in self.rules)

    @property
    def budgeted(self) -> bool:
        """Whether any rule has a codec that needs a budget."""
        return any(rule.codec.budgeted for rule in self.rules)

    def choose(self, name: str, dtype: DType, shape: tuple[int, ...]) -> Codec:
        """The codec of one tensor."""
        number = self._first(name)
        if number is None:
            return self._default
        self._used.add(number)
        rule = self.rules[number]
        if 0 in shape and rule.codec.lossy:
            return self._default
        return self._fit(rule, name, dtype, shape)

    def check_patterns(self, names: Collection[str]) -> None:
        """Raise ValueError if a pattern matches none of all the names there are, chosen for before or not."""
        there = set(names)
        for number, rule in enumerate(self.rules):
            if not rule.named or number in self._used or rule.pattern in there:
                continue
            matches = self._globs.get(number)
            if matches is None or not any(map(matches, names)):
                raise ValueError(f"codec: pattern {rule.pattern!r} matches no tensor")

    def _first(self, name: str) -> int | None:
        """Number of the first rule that takes a name."""
        exact = self._exact.get(name)
        for number, matches in self._globs.items():
            if exact is not None and number >= exact:
                break
            if matches(name):
                return number
        return exact

    def _fit(self, rule: Rule, name: str, dtype: DType, shape: tuple[int, ...]) -> Codec:
        codec = rule.codec
        if not codec.lossy:
            return codec
        if codec.supports(dtype.code, shape) and (rule.named or (dtype.is_float and codec.wants(shape))):
            return codec
        if rule.named and rule.pattern == name:
            raise ValueError(
                f"codec {codec.name!r} cannot take tensor {name!r} of type {dtype.name} and shape {shape}"
            )
        return self._default


def _matcher(pattern: str) -> Callable[[str], object]:
    """What ``fnmatch.fnmatchcase`` compiles, whose cache many patterns overrun."""
    return re.compile(translate(pattern)).match
