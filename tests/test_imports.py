"""What a process imports: a decoder loads what it needs, and every public name is there when asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import nncodec
from nncodec import codecs
from nncodec.codecs import CODECS, Codec, registry

FOLDER = Path(registry.__file__).parent
NOT_CODECS = {"__init__", "base", "registry"}


def modules_after(code: str, *arguments: object) -> set[str]:
    """Names of the modules that a fresh process has after running ``code``."""
    script = f"import sys\n{code}\nprint(*sys.modules)"
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())


def test_decoding_imports_the_codec_of_the_file_and_no_encoder(tmp_path):
    nncodec.save_file({"w": np.arange(6.0)}, tmp_path / "w.nncz")
    loaded = modules_after(
        "import nncodec; nncodec.load_file(sys.argv[1]); nncodec.open(sys.argv[1])['w']", tmp_path / "w.nncz"
    )
    assert "nncodec.codecs.lossless" in loaded
    others = {f"nncodec.codecs.{name}" for name in CODECS if name != "lossless"}
    encoders = {"nncodec.writer", "nncodec.encoding", "nncodec.allocate", "nncodec.calibration"}
    assert not loaded & (others | encoders | {"torch", "json", "pathlib"})


@pytest.mark.parametrize("module", [nncodec, codecs])
def test_every_public_name_is_there(module):
    assert set(module.__all__) <= set(dir(module))
    for name in module.__all__:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        _ = module.absent


@pytest.mark.parametrize("module", ["nncodec", "nncodec.codecs"])
def test_a_star_import_gives_them_all(module):
    names = sys.modules[module].__all__
    modules_after(
        f"from {module} import *\nassert {names!r} and all(name in globals() for name in {names!r})"
    )


def test_no_public_name_asks_for_torch():
    loaded = modules_after("from nncodec import *\nfrom nncodec.codecs import *")
    assert "nncodec.synthetic" in loaded
    assert "torch" not in loaded


def test_the_registry_names_every_module_in_the_folder():
    assert set(CODECS) == {path.stem for path in FOLDER.glob("*.py")} - NOT_CODECS
    assert "absent" not in CODECS
    with pytest.raises(KeyError):
        CODECS["absent"]


@pytest.mark.parametrize("name", CODECS)
def test_names_and_ids_are_those_of_the_classes(name):
    codec = CODECS[name]
    assert issubclass(codec, Codec)
    assert codec.name == name
    assert registry.codec_by_id(codec.id) is codec
    assert getattr(codecs, codec.__name__) is codec


@pytest.mark.parametrize("name", ["codecs", "information", "report"])
def test_submodules_are_there_when_asked_for(name):
    assert f"nncodec.{name}" in modules_after(f"import nncodec; nncodec.{name}.__name__")


def test_training_is_there_when_asked_for():
    pytest.importorskip("torch")
    loaded = modules_after("import nncodec; nncodec.train.SLQ; nncodec.distributed.__name__")
    assert {"nncodec.train", "nncodec.distributed", "torch"} <= loaded
