"""Choice of the instruction set, and buffers at the door."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from nncodec import _core


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_scalar_is_always_there_and_the_best_is_the_default() -> None:
    assert _core.supported_isas()[0] == "scalar"
    outcome = python("from nncodec import _core; print(_core.isa())", NNCODEC_FORCE_ISA="")
    assert outcome.stdout.strip() == _core.supported_isas()[-1], outcome.stderr


@pytest.mark.parametrize("isa", _core.supported_isas())
def test_environment_forces_a_level(isa: str) -> None:
    outcome = python("from nncodec import _core; print(_core.isa())", NNCODEC_FORCE_ISA=isa)
    assert outcome.stdout.strip() == isa, outcome.stderr


def test_environment_with_an_unknown_level_fails_at_import() -> None:
    outcome = python("import nncodec", NNCODEC_FORCE_ISA="mmx")
    assert outcome.returncode != 0
    assert "mmx" in outcome.stderr


def test_force_isa_names_what_is_wrong() -> None:
    before = _core.isa()
    with pytest.raises(ValueError, match="mmx"):
        _core.force_isa("mmx")
    missing = {"neon", "avx2", "avx512"} - set(_core.supported_isas())
    for isa in missing:
        with pytest.raises(ValueError, match=isa):
            _core.force_isa(isa)
    assert _core.isa() == before


def test_buffers_are_checked() -> None:
    with pytest.raises(TypeError, match="data must be a C-contiguous buffer, got str"):
        _core.crc32c("text")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"data must be a C-contiguous buffer, got numpy\.ndarray"):
        _core.crc32c(np.zeros((4, 4), np.uint8)[:, ::2])
    read_only = np.zeros(4, np.uint8)
    read_only.flags.writeable = False
    with pytest.raises(TypeError, match="out must be a C-contiguous writable buffer"):
        _core.adaptive_decode_bytes(b"", read_only)


def test_every_kind_of_buffer_is_taken() -> None:
    expected = _core.crc32c(b"\1\2\3\4")
    array = np.array([[1, 2], [3, 4]], np.uint8)
    for buffer in (bytearray(b"\1\2\3\4"), memoryview(b"\1\2\3\4"), array, array.view(np.uint16)):
        assert _core.crc32c(buffer) == expected
    assert _core.crc32c(np.zeros((0, 3), np.float32)) == 0
