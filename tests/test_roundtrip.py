"""Whole checkpoints through every verb: same values, types, order, ties; same bytes however many threads."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import nncodec
from nncodec.codecs import CODECS, Stored
from nncodec.dtypes import BY_CODE, BY_NAME
from nncodec.selection import Selection, _matcher
from test_tensors import same

LOSSLESS = sorted(name for name, codec in CODECS.items() if not codec.lossy)

arrays = st.sampled_from(
    [row.numpy() for row in BY_CODE.values() if row.code < 50 and row.name != "float4_e2m1fn_x2"]
).flatmap(
    lambda dtype: hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=6).map(
        lambda shape: (dtype, shape)
    )
)


@st.composite
def tensor(draw):
    dtype, shape = draw(arrays)
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    raw = np.frombuffer(draw(st.binary(min_size=size, max_size=size)), np.uint8).copy()
    if dtype == np.bool_:
        raw &= 1
    array = raw.view(dtype).reshape(shape)
    if array.ndim and draw(st.booleans()):
        array = array[:: draw(st.sampled_from([1, 2, -1]))]
    if draw(st.booleans()) or array.ndim == 0 or 0 in array.shape:
        return array
    row = next(row for row in BY_CODE.values() if row.numpy() == dtype)
    bits = torch.from_numpy(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
    return bits.view(row.torch()).reshape(array.shape)


@settings(deadline=None, max_examples=150)
@given(st.dictionaries(st.text(max_size=20), tensor(), max_size=6), st.data(), st.sampled_from(LOSSLESS))
def test_any_state_dict_comes_back(state, data, codec):
    for name in list(state):
        if data.draw(st.integers(0, 3)) == 0:
            state[name + "/tied"] = state[name]
    blob = nncodec.encode(state, codec)
    out = nncodec.decode(blob)
    assert list(out) == list(state)
    for name, value in state.items():
        want = np.ascontiguousarray(value).reshape(value.shape) if isinstance(value, np.ndarray) else value
        assert same(out[name], want)
    streamed = nncodec.load_file(io.BytesIO(blob))
    assert list(streamed) == list(state)
    assert all(same(streamed[name], out[name]) for name in out)


def checkpoint(seed: int = 0) -> dict:
    rng = np.random.default_rng(seed)
    state = {f"layer{i}.weight": rng.normal(size=(64, 100 * i)).astype(np.float32) for i in range(6)}
    state |= {f"layer{i}.bias": rng.normal(size=64).astype(np.float32) for i in range(6)}
    state["wide"] = rng.normal(size=(800, 1000)).astype(np.float32)
    state["tied"] = state["layer3.weight"]
    return state


def equal(a, b) -> bool:
    return list(a) == list(b) and all(same(a[name], b[name]) for name in a)


@pytest.mark.parametrize("codec", LOSSLESS)
def test_bytes_do_not_depend_on_threads_nor_on_the_way_out(codec, tmp_path):
    state = checkpoint()
    blob = nncodec.encode(state, codec, threads=1)
    assert nncodec.encode(state, codec, threads=3) == blob
    path = tmp_path / "a.nncz"
    nncodec.save_file(state, path, codec)
    assert path.read_bytes() == blob
    with open(tmp_path / "b", "wb", buffering=0) as raw:
        nncodec.save_file(state, raw, codec)
    assert (tmp_path / "b").read_bytes() == blob
    for threads in (1, 2, None):
        assert equal(nncodec.decode(blob, threads=threads), state)
    assert equal(nncodec.load_file(path), state)


def test_a_pipe_is_written_and_read_without_seeking():
    state = checkpoint()
    reader, writer = os.pipe()
    if os.fork() == 0:
        try:
            os.close(reader)
            with open(writer, "wb") as out:
                nncodec.save_file(state, out, "stored", threads=1)
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as source:
        got = dict(nncodec.iter_file(source))
    os.wait()
    assert equal({name: got[name] for name in state}, state)


def test_stream_order_and_names(tmp_path):
    path = tmp_path / "a.nncz"
    nncodec.save_file(checkpoint(), path, "stored")
    names = [name for name, _ in nncodec.iter_file(path)]
    assert sorted(names) == sorted(checkpoint())
    assert names[-1] == "tied"
    some = nncodec.load_file(io.BytesIO(path.read_bytes()), names=["tied", "wide"])
    assert list(some) == ["tied", "wide"]


def test_metadata():
    about = {"format": "pt", "ünïcode": "☃", "": ""}
    blob = nncodec.encode({"a": np.ones(2)}, "stored", metadata=about)
    assert nncodec.recover(io.BytesIO(blob)).metadata == about
    with pytest.raises(TypeError, match="metadata"):
        nncodec.encode({}, "stored", metadata={"a": 1})
    with pytest.raises(ValueError, match="UTF-8"):
        nncodec.encode({}, "stored", metadata={"a": "\ud800"})


def test_progress():
    calls: list[tuple[int, int]] = []
    state = checkpoint()
    blob = nncodec.encode(state, "stored", progress=lambda done, total: calls.append((done, total)))
    total = sum(tensor.nbytes for name, tensor in state.items() if name != "tied")
    assert calls[-1] == (total, total)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    calls.clear()
    nncodec.decode(blob, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (total, total)


def test_selection_by_pattern(tmp_path):
    state = checkpoint()
    path = tmp_path / "x.nncz"
    nncodec.save_file(state, path, {"layer1.*": Stored(), "layer*": "stored", "*": LOSSLESS[0]})
    with nncodec.open(path) as file:
        assert file.info("layer2.weight").codec == "stored"
        assert file.info("wide").codec == LOSSLESS[0]
    with pytest.raises(ValueError, match=r"'embed\.\*' matches no tensor"):
        nncodec.encode(state, {"embed.*": "stored"})
    with pytest.raises(ValueError, match="'zip' is unknown; there are"):
        nncodec.encode(state, "zip")
    with pytest.raises(TypeError, match="codec must be"):
        nncodec.encode(state, 3)


def codecs_of(state, codec):
    """The codec that each tensor of a checkpoint is stored with, by name."""
    selection = Selection(codec)
    chosen = {name: selection.choose(name, BY_NAME["float32"], (4, 4)).name for name in state}
    selection.check_patterns(state)
    return chosen


def test_a_pattern_that_is_a_name_takes_that_tensor():
    state = {"layer[0].w": np.ones((2, 2)), "layer0.w": np.ones((2, 2)), "w?": np.ones((2, 2))}
    assert equal(nncodec.decode(nncodec.encode(state, {"layer[0].w": "stored"})), state)
    assert codecs_of(["layer[0].w"], {"layer[0].w": "stored"}) == {"layer[0].w": "stored"}
    # A glob all the same.
    assert codecs_of(state, {"layer[0].w": "stored", "w?": "stored"}) == {
        "layer[0].w": "stored",
        "layer0.w": "stored",
        "w?": "stored",
    }


def test_the_first_rule_that_matches_wins_globs_and_names_alike():
    rules = {
        "a.w": "stored",
        "a.*": "universal",
        "b.*": "universal",
        "b.w": "stored",
        "c": "universal",
        "*": "stored",
    }
    assert codecs_of(["a.w", "a.v", "b.w", "c", "d"], rules) == {
        "a.w": "stored",
        "a.v": "universal",
        "b.w": "universal",
        "c": "universal",
        "d": "stored",
    }
    # A pattern that only matches what an earlier one takes does match.
    assert codecs_of(["a.w", "b"], {"a.w": "stored", "a.*": "universal"}) == {
        "a.w": "stored",
        "b": "lossless",
    }
    with pytest.raises(ValueError, match=r"'a\.\?' matches no tensor"):
        codecs_of(["a.wide", "a."], {"a.*": "stored", "a.?": "stored"})


def test_a_rule_of_a_tied_tensor_alone_matches():
    weight = np.ones((3, 3), np.float32)
    for rules in ({"b": "stored"}, {"b*": "stored"}):
        assert list(nncodec.decode(nncodec.encode({"a": weight, "b": weight}, rules))) == ["a", "b"]


def test_rules_for_each_of_many_tensors_are_looked_up(monkeypatch):
    calls = []

    def counting(pattern):
        matches = _matcher(pattern)
        return lambda name: calls.append(name) or matches(name)

    monkeypatch.setattr("nncodec.selection._matcher", counting)
    names = [f"layer.{number}.w" for number in range(500)]
    rules = {"head*": "stored"} | dict.fromkeys(names, "stored") | {"*": "universal"}
    assert set(codecs_of([*names, "head.w", "rest"], rules).values()) == {"stored", "universal"}
    assert len(calls) <= 2 * (len(names) + 2)


@pytest.mark.parametrize(
    ("arguments", "error", "why"),
    [
        ({"threads": 0}, ValueError, "threads"),
        ({"threads": 1.5}, TypeError, "threads"),
        ({"step": 1.0}, ValueError, "step: a budget needs a lossy codec that takes one"),
        ({"quality": 1.0}, TypeError, "quality"),
        ({"importance": {"a": np.ones(3)}}, ValueError, "importance"),
        ({"metadata": ["a"]}, TypeError, "metadata must be a mapping"),
        ({"metadata": {"a": 1}}, TypeError, "metadata maps strings"),
        ({"codec": "uniform", "ratio": "8"}, TypeError, "ratio must be a number"),
        ({"codec": "uniform", "ratio": True}, TypeError, "ratio must be a number"),
        ({"codec": "uniform", "ratio": 8, "importance": []}, TypeError, "importance must be a mapping"),
    ],
)
def test_bad_arguments_are_named(arguments, error, why):
    with pytest.raises(error, match=why):
        nncodec.encode(checkpoint(), **{"codec": "stored", **arguments})


def test_a_wrong_place_is_named(tmp_path):
    state = {"a": np.ones(3)}
    with pytest.raises(FileNotFoundError) as caught:
        nncodec.save_file(state, tmp_path / "none" / "x.nncz")
    assert caught.value.filename == str(tmp_path / "none" / "x.nncz")
    for call in (lambda: nncodec.save_file(state, 3), lambda: nncodec.load_file(1.5)):
        with pytest.raises(TypeError, match="path must be a path or a file object"):
            call()
    with pytest.raises(TypeError, match="max_bytes must be a whole number"):
        nncodec.decode(nncodec.encode(state), max_bytes="1")
    with pytest.raises(TypeError, match=r"Linear.*call its state_dict\(\)"):
        nncodec.encode(torch.nn.Linear(2, 2))


@pytest.mark.parametrize("shape", [(), (0,)])
def test_many_tiny_tensors_take_linear_time(shape):
    state = {f"layer.{number}": np.ones(shape, np.float32) for number in range(66_000)}
    start = time.process_time()
    back = nncodec.decode(nncodec.encode(state, "stored"))
    assert time.process_time() - start < 30  # quadratic, it takes minutes
    assert list(back) == list(state)
    assert all(value.shape == shape for value in back.values())


def test_bad_names():
    with pytest.raises(ValueError, match="UTF-8"):
        nncodec.encode({"\ud800": np.ones(1)}, "stored")
    with pytest.raises(ValueError, match="65536 bytes"):
        nncodec.encode({"n" * 65536: np.ones(1)}, "stored")
    long = {"n" * 65535: np.ones(1), "": np.zeros(1)}
    assert equal(nncodec.decode(nncodec.encode(long, "stored")), long)


def test_blob_must_be_bytes():
    with pytest.raises(TypeError, match="blob"):
        nncodec.decode("text")
    blob = nncodec.encode({"a": np.arange(3)}, "stored")
    for form in (bytearray(blob), memoryview(blob), np.frombuffer(blob, np.uint8)):
        assert nncodec.decode(form)["a"].tolist() == [0, 1, 2]


# Saving


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), OSError(28, "No space left on device")], ids=["interrupt", "disk full"]
)
def test_a_failed_save_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "model.nncz"
    nncodec.save_file({"a": np.arange(3)}, path, "stored")
    before = path.read_bytes()

    def explode(done, total):
        raise error

    with pytest.raises(type(error)):
        nncodec.save_file(checkpoint(), path, "stored", progress=explode)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["model.nncz"]


def test_a_full_disk(tmp_path):
    script = """
        import resource, signal, sys, numpy as np, nncodec
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        try:
            nncodec.save_file({"a": np.ones(1 << 20)}, sys.argv[1], "stored")
        except OSError as error:
            print("OSError", error.errno)
    """
    path = tmp_path / "model.nncz"
    path.write_bytes(b"old")
    out = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(path)], capture_output=True, text=True, check=True
    )
    assert out.stdout.startswith("OSError")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["model.nncz"]


def test_permissions_and_links(tmp_path):
    real = tmp_path / "real.nncz"
    link = tmp_path / "link.nncz"
    nncodec.save_file({"a": np.arange(3)}, real, "stored")
    fresh = tmp_path / "fresh"
    fresh.touch()
    assert stat.S_IMODE(real.stat().st_mode) == stat.S_IMODE(fresh.stat().st_mode)
    real.chmod(0o640)
    link.symlink_to(real)
    nncodec.save_file({"b": np.arange(4)}, link, "stored")
    assert link.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert list(nncodec.load_file(real)) == ["b"]
    with pytest.raises(IsADirectoryError):
        nncodec.save_file({}, tmp_path, "stored")
    with pytest.raises(FileNotFoundError):
        nncodec.save_file({}, tmp_path / "none" / "x.nncz", "stored")


# Writer


def test_writer(tmp_path):
    path = tmp_path / "w.nncz"
    state = checkpoint()
    buffer = np.empty(3, np.float32)
    with nncodec.Writer(path, "stored", metadata={"a": "b"}) as writer:
        for name, value in state.items():
            writer.add(name, value)
            assert not path.exists()
        for number in range(3):
            buffer[...] = number
            writer.add(f"reused{number}", buffer)
        writer.add("torch", torch.ones(2, dtype=torch.bfloat16))
        with pytest.raises(ValueError, match="'wide' is there twice"):
            writer.add("wide", state["wide"])
        with pytest.raises(TypeError, match="'object'"):
            writer.add("object", 3)
    out = nncodec.load_file(path)
    assert list(out) == [*state, "reused0", "reused1", "reused2", "torch"]
    assert all(same(out[name], state[name]) for name in state)
    assert [out[f"reused{n}"][0] for n in range(3)] == [0, 1, 2]
    assert same(out["torch"], torch.ones(2, dtype=torch.bfloat16))
    with pytest.raises(ValueError, match="closed"):
        writer.add("late", buffer)


def test_an_unfinished_writer_leaves_nothing(tmp_path):
    path = tmp_path / "w.nncz"

    def stop() -> None:
        with nncodec.Writer(path, "stored") as writer:
            writer.add("a", np.ones(100_000))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        stop()
    writer = nncodec.Writer(path, "stored")
    writer.add("a", np.ones(100_000))
    del writer
    assert os.listdir(tmp_path) == []
    with (
        pytest.raises(ValueError, match="matches no tensor"),
        nncodec.Writer(path, {"x": "stored"}) as writer,
    ):
        writer.add("a", np.ones(3))
    assert os.listdir(tmp_path) == []


# What it costs


def test_import_brings_numpy_and_nothing_heavier():
    script = "import nncodec, sys; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(out.stdout.split())
    assert "numpy" in loaded
    assert not loaded & {"torch", "ml_dtypes", "scipy", "click", "tqdm", "safetensors", "asyncio"}


def test_decoding_numpy_imports_no_torch():
    blob = nncodec.encode({"a": np.ones(3)}, "stored")
    script = "import nncodec, sys; print(nncodec.decode(sys.stdin.buffer.read())['a'].sum(), 'torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", script], input=blob, capture_output=True, check=True)
    assert out.stdout.split() == [b"3.0", b"False"]


def peak(script: str, *arguments: str) -> int:
    """Growth of a fresh process's peak memory over what it had before the measured part, in bytes."""
    whole = f"""
        import re, sys, numpy as np, nncodec
        # Not getrusage: what that calls the peak begins with the parent's.
        def high(): return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
        nncodec.decode(nncodec.encode({{"a": np.ones(10)}}, sys.argv[2]))
{textwrap.indent(textwrap.dedent(script), "        ")}
    """
    out = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(whole), *arguments], capture_output=True, text=True, check=True
    )
    return int(out.stdout)


SIZE = 100 << 20


@pytest.mark.skipif(
    not os.path.exists("/proc/self/status"), reason="reads Linux's account of a process's memory"
)
@pytest.mark.parametrize("codec", LOSSLESS)
@pytest.mark.parametrize("shape", ["one tensor", "many tensors"])
def test_peak_memory(tmp_path, codec, shape):
    path = str(tmp_path / "x.nncz")
    count = 1 if shape == "one tensor" else 100
    make = f"""
        rng = np.random.default_rng(0)
        block = rng.standard_normal({SIZE // 4 // 100}).astype(np.float32)
        base = high()
        state = {{str(i): np.tile(block, {100 // count}) for i in range({count})}}
        nncodec.save_file(state, sys.argv[1], sys.argv[2], threads=2)
        print(high() - base)
    """
    assert peak(make, path, codec) < 1.25 * SIZE
    load = """
        base = high()
        state = nncodec.load_file(sys.argv[1], threads=2)
        print(high() - base)
    """
    assert peak(load, path, codec) < 1.25 * SIZE


@pytest.mark.skipif(
    not os.path.exists("/proc/self/status"), reason="reads Linux's account of a process's memory"
)
@pytest.mark.parametrize("transform", ["none", "klt"])
def test_peak_memory_of_uniform(tmp_path, transform):
    """Neither levels nor coefficients of a tensor are held."""
    path = str(tmp_path / "x.nncz")
    size = 64 << 20
    make = f"""
        rng = np.random.default_rng(0)
        rows = rng.standard_normal((4096, 256)).astype(np.float32)
        base = high()
        state = {{"w": np.tile(rows, ({size // 4096 // 256 // 4}, 1))}}
        codec = nncodec.codecs.Uniform(transform="{transform}")
        nncodec.save_file(state, sys.argv[1], codec, step=0.5, threads=2)
        print(high() - base)
    """
    assert peak(make, path, "lossless") < 1.25 * size
    load = """
        base = high()
        state = nncodec.load_file(sys.argv[1], threads=2)
        print(high() - base)
    """
    assert peak(load, path, "lossless") < 1.25 * size
