"""What stands between a record and its codec: payload versions are checked in one place, for all codecs."""

from __future__ import annotations

import pytest

from nncodec import DecodeError, VersionError
from nncodec.codecs import CODECS, Codec
from nncodec.container.descriptor import Descriptor, TensorEntry
from nncodec.decoding import decoder_for


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_versions_that_this_does_not_know_are_refused(codec: type[Codec]) -> None:
    def record(version: int) -> Descriptor:
        return Descriptor(codec.id, version, 2, (TensorEntry("w", 0, 0, (1,)),), 1, b"")

    with pytest.raises(
        VersionError, match=rf"version {codec.version + 1} of codec '{codec.name}' is too new"
    ):
        decoder_for(record(codec.version + 1), 0)
    with pytest.raises(DecodeError, match=f"version 0 of codec '{codec.name}' does not exist"):
        decoder_for(record(0), 0)
