"""What a file holds, as a page to look at: where the bytes are, what they cost in error, how it compares.

``nncodec report FILE`` on the command line; :func:`gather` makes the figures, :func:`page` one HTML document of them
that needs no network, :func:`images` pictures for papers.
"""

from nncodec.report.gather import Report, TensorReport, gather
from nncodec.report.images import image_paths, images
from nncodec.report.page import page

__all__ = ["Report", "TensorReport", "gather", "image_paths", "images", "page"]
