"""Where records are decoded to: the memory of their tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from nncodec.container.descriptor import Descriptor
from nncodec.container.sections import Alias
from nncodec.decoding import Output
from nncodec.tensors import Arena, Destination, framework_for, tensors_within

__all__ = ["Placed", "aliased"]


class Placed(NamedTuple):
    """Where records are decoded to, by number, and the tensors that lie there.

    ``memory`` has those of which there are views.
    """

    outputs: dict[int, Output]
    tensors: dict[str, Any]
    memory: dict[str, Destination]

    def add(
        self,
        number: int,
        descriptor: Descriptor,
        wanted: Mapping[int, str],
        framework: str | None,
        arena: Arena,
        kept: set[str],
    ) -> None:
        """Tensors of a record, each for itself."""
        targets = {}
        for inner, name in wanted.items():
            entry = descriptor.tensors[inner]
            destination = Destination(
                descriptor.dtype, entry.shape, framework_for(entry.origin, framework), arena
            )
            targets[inner] = destination.bytes
            self.tensors[name] = destination.tensor()
            if name in kept:
                self.memory[name] = destination
        self.outputs[number] = Output(descriptor, targets)

    def add_whole(self, number: int, descriptor: Descriptor, framework: str | None, kept: set[str]) -> None:
        """All tensors of a record, in one memory."""
        space = Destination(descriptor.dtype, (descriptor.elements,), "np").bytes
        self.outputs[number] = Output(descriptor, {}, space)
        starts = descriptor.tensor_starts
        origins = [entry.origin for entry in descriptor.tensors]
        chosen = {origin: framework_for(origin, framework) for origin in set(origins)}
        frameworks = [chosen[origin] for origin in origins]
        found = tensors_within(space, descriptor.dtype, starts, descriptor.shapes, frameworks)
        self.tensors.update(zip([entry.name for entry in descriptor.tensors], found, strict=True))
        if kept:
            for inner, entry in enumerate(descriptor.tensors):
                if entry.name in kept:
                    given = space[starts[inner] : starts[inner + 1]]
                    self.memory[entry.name] = Destination(
                        descriptor.dtype, entry.shape, frameworks[inner], given=given
                    )


def aliased(alias: Alias, memory: Destination, target: Any, framework: str | None) -> Any:
    """The tensor of an alias, in its target's memory."""
    wanted = framework_for(alias.origin, framework)
    if alias.shape is not None:
        return memory.view(alias.offset, alias.shape, alias.strides, wanted)
    if wanted == memory.framework:
        return target
    return memory.whole(wanted)
