"""A nested checkpoint comes back equal in value, type and order; no code runs to read it."""

from __future__ import annotations

import contextlib
import json
import math
from collections import Counter, OrderedDict, defaultdict, namedtuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import nncodec
from equality import equal
from nncodec.structure import MAX_DEPTH, _Flattener, flatten, rebuild


def round_trip(checkpoint):
    return nncodec.decode(nncodec.encode(checkpoint, "stored"))


CHECKPOINT = {
    "model": OrderedDict([("weight", torch.ones(2, 3)), ("bias", np.arange(3, dtype=np.int16))]),
    "optimizer": {
        "state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.zeros(2, 3)}, 1: {}},
        "param_groups": [
            {"lr": 1e-3, "betas": (0.9, 0.999), "params": [0, 1], "foreach": None, "amsgrad": False}
        ],
    },
    "epoch": 3,
    "big": -(2**100),
    "edge": [2**53, -(2**53), 2**53 - 1],
    "floats": [0.0, -0.0, 1.0, 5e-324, 1.7976931348623157e308, math.inf, -math.inf, math.nan],
    "complex": [1 + 2j, complex(math.nan, -0.0)],
    "text": "naïve \u2603 \x00 \ud800",
    "bytes": b"\x00\xff",
    "sets": [{1, "a", (2, 3)}, frozenset(), set()],
    "counter": Counter({3: 2, "a": -1}),
    "defaultdicts": [
        defaultdict(list, {"a": [torch.ones(2)]}),
        defaultdict(None, {1: 2}),
        *(defaultdict(kind) for kind in (dict, float, int, set, str)),
    ],
    "torch": [torch.Size([2, 3]), torch.bfloat16, torch.device("cuda", 1), torch.device("cpu")],
    "numpy": [np.float64(1.5), np.int8(-3), np.bool_(True), np.float32("nan"), np.complex64(1j)],
    ("tuple", 1): [True, None, [], {}, ()],
    None: 1.0,
    2.5: "float key",
}


def test_an_eventful_checkpoint():
    assert equal(round_trip(CHECKPOINT), CHECKPOINT)


@pytest.mark.parametrize("kind", [Counter, lambda items: defaultdict(dict, items), OrderedDict, dict])
@pytest.mark.parametrize("items", [{}, {"w": torch.ones(2)}, {"w": torch.ones(2), 3: "x"}])
def test_the_outermost_mapping_keeps_its_type(kind, items):
    assert equal(round_trip(kind(items)), kind(items))


def test_a_scheduler_resumes():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], 0.1)
    state = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 3, 6]).state_dict()
    assert isinstance(state["milestones"], Counter)
    loaded = round_trip(state)
    assert equal(loaded, state)
    torch.optim.lr_scheduler.MultiStepLR(optimizer, [1]).load_state_dict(loaded)


@pytest.mark.parametrize(
    "document",
    [
        '{"defaultdict":["eval",[]]}',
        '{"defaultdict":["tuple",[]]}',
        '{"defaultdict":[["list"],[]]}',
        '{"defaultdict":["list"]}',
        '{"defaultdict":{"list":1,"x":2}}',
        '{"defaultdict":[null,[["a",1],["a",2]]]}',
        '{"defaultdict":[null,{}]}',
        '{"defaultdict":3}',
        '{"counter":[["a",1],["a",2]]}',
        '{"counter":[[["a"],1]]}',
        '{"counter":"aab"}',
    ],
)
def test_hostile_collections_are_refused(document):
    with pytest.raises(nncodec.DecodeError):
        rebuild(document.encode(), 8, {})


def test_a_real_optimizer_resumes():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(8, 4)).sum().backward()
    optimizer.step()
    saved = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    loaded = round_trip(saved)
    assert equal(loaded, saved)
    model.load_state_dict(loaded["model"])
    optimizer.load_state_dict(loaded["optimizer"])


def test_tensors_are_named_by_their_path():
    blob = nncodec.encode({"a": {"b": torch.ones(1)}, "a.b": torch.zeros(1), 0: [torch.ones(2)]}, "stored")
    names = ["a.b", "a.b#2", "0.0"]
    assert list(nncodec.decode(blob, names=names)) == names


def test_a_flat_dict_needs_no_structure_and_an_ordered_one_stays_ordered():
    tensors = {"b": torch.ones(2), "a": torch.zeros(2)}
    assert flatten(tensors)[1] is None
    assert type(round_trip(tensors)) is dict
    back = round_trip(OrderedDict(tensors))
    assert type(back) is OrderedDict
    assert list(back) == ["b", "a"]
    assert round_trip({}) == {}
    assert equal(round_trip(OrderedDict()), OrderedDict())


def test_roots_other_than_a_mapping():
    for root in ([torch.ones(2), 3], (np.ones(2),), torch.ones(3), []):
        assert equal(round_trip(root), root)


def test_ties_hold_within_a_structure():
    weight = torch.randn(4, 4)
    out = round_trip({"a": [weight], "b": {"c": weight.T}})
    out["a"][0][1, 2] = 9
    assert out["b"]["c"][2, 1] == 9


class Thing:
    pass


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"a": [1, Thing()]}, r"\['a'\]\[1\] is a .*Thing"),
        ({"a": {"x": defaultdict(lambda: 1)}}, r"\['a'\]\['x'\] is a defaultdict of <function"),
        ({"a": defaultdict(Thing)}, r"\['a'\] is a defaultdict of <class"),
        ({"a": namedtuple("P", "x y")(1, 2)}, r"\['a'\] is a .*P"),
        ({"a": len, "t": np.ones(1)}, r"\['a'\] is a builtins"),
        ({"a": np.longdouble(1)}, r"\['a'\] is a numpy scalar"),
    ],
)
def test_unknown_objects_are_refused_by_path(value, path):
    with pytest.raises(TypeError, match=path):
        nncodec.encode(value, "stored")


def test_cycles_and_depth():
    loop: list = []
    loop.append(loop)
    with pytest.raises(ValueError, match="contains itself"):
        nncodec.encode({"a": loop}, "stored")
    shared = [1]
    assert round_trip({"a": shared, "b": shared}) == {"a": [1], "b": [1]}
    deep: list = []
    for _ in range(MAX_DEPTH - 2):
        deep = [deep]
    assert round_trip({"a": deep}) == {"a": deep}
    with pytest.raises(ValueError, match="nested more than"):
        nncodec.encode({"a": [[[deep]]]}, "stored")


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"{",
        b"\xff",
        b"NaN",
        b"[" * 100_000,
        b"[" * 300 + b"]" * 300,
        b'{"a":1,"b":2}',
        b"{}",
        b'{"eval":"1"}',
        b'{"tensor":"missing"}',
        b'{"tensor":1}',
        b'{"int":5}',
        b'{"int":"zz"}',
        b'{"float":"00"}',
        b'{"float":[]}',
        b'{"complex":[1]}',
        b'{"complex":[1,2]}',
        b'{"bytes":"?"}',
        b'{"set":[[]]}',
        b'{"set":{}}',
        b'{"dict":[[1]]}',
        b'{"dict":[[[],1]]}',
        b'{"dict":[["a",1],["a",2]]}',
        b'{"dict":{"a":1}}',
        b'{"numpy":["float32","00"]}',
        b'{"numpy":["object","00"]}',
        b'{"numpy":[[],"00"]}',
        b'{"torch.dtype":"nn"}',
        b'{"torch.dtype":""}',
        b'{"torch.dtype":"load"}',
        b'{"torch.device":"nowhere"}',
        b'{"torch.Size":["x"]}',
        b'{"torch.Size":7}',
        b"9" * 5000,
    ],
    ids=lambda document: repr(document[:30]),
)
def test_bad_documents_are_decode_errors(document):
    with pytest.raises(nncodec.DecodeError) as caught:
        rebuild(document, 77, {})
    assert caught.value.offset == 77


def test_a_document_that_forgets_a_tensor():
    with pytest.raises(nncodec.DecodeError, match="every tensor"):
        rebuild(b"[]", 0, {"t": np.ones(1)})


leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.complex_numbers()
    | st.text()
    | st.binary()
    | st.builds(np.float32, st.floats(width=32))
    | st.builds(lambda n: torch.arange(n), st.integers(0, 5))
    | st.builds(lambda n: np.arange(n, dtype=np.uint8), st.integers(0, 5))
)
keys = st.text() | st.integers() | st.booleans() | st.none() | st.tuples(st.integers(), st.text())
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(keys, inner, max_size=4)
        | st.dictionaries(st.text(), inner, max_size=4).map(OrderedDict)
        | st.sets(st.integers() | st.text(), max_size=4)
    ),
    max_leaves=12,
)


@settings(deadline=None, max_examples=150)
@given(st.dictionaries(keys, trees, max_size=4))
def test_any_tree_comes_back(tree):
    assert equal(round_trip(tree), tree)


@settings(deadline=None, max_examples=200)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda x: (
            st.lists(x, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "dict",
                        "set",
                        "tuple",
                        "int",
                        "numpy",
                        "complex",
                        "torch.Size",
                        "bytes",
                        "ordered_dict",
                        "tensor",
                        "float",
                        "torch.dtype",
                        "torch.device",
                    ]
                ),
                x,
                max_size=1,
            )
        ),
        max_leaves=8,
    )
)
def test_no_document_gets_past_decode_error(root):
    document = json.dumps(root).encode()
    with contextlib.suppress(nncodec.DecodeError):  # anything else is a failure
        rebuild(document, 0, {})


def test_tensors_of_one_printed_name_are_numbered() -> None:
    """Keys 1 and "1" print alike; a name with a number may be taken already."""
    one = np.zeros(1, np.float32)
    tensors, _ = flatten({1: one, "1": one, "1#3": one, "x": {"1": one}, (): {1: one}, "()": {1: one}})
    assert list(tensors) == ["1", "1#2", "1#3", "x.1", "().1", "().1#2"]


def test_many_tensors_of_one_printed_name_are_looked_up_a_few_times_each() -> None:
    class Counting(dict[str, object]):
        lookups = 0

        def __contains__(self, name: object) -> bool:
            Counting.lookups += 1
            return super().__contains__(name)

    class Key:
        """Prints as all others do."""

        def __str__(self) -> str:
            return "key"

    walker = _Flattener()
    walker.tensors = Counting()
    for _ in range(100):
        walker.node(np.zeros(1, np.float32), (Key(),))
    assert list(walker.tensors)[-1] == "key#100"
    assert Counting.lookups <= 300
