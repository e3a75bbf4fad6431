"""How much of a network's input and of its labels its activations tell: mutual information, estimated.

EBAB and aKDE: Chelombiev, Houghton and O'Donnell, "Adaptive Estimators Show Information Compression in Deep Neural
Networks", ICLR 2019 (arXiv:1902.09037). What the figures mean, and what not: docs/information.md.
"""

from nncodec.information.binning import EBAB, Binning
from nncodec.information.density import AdaptiveKDE, FixedKDE
from nncodec.information.estimate import Estimator, Information
from nncodec.information.plane import InformationPlane

__all__ = ["EBAB", "AdaptiveKDE", "Binning", "Estimator", "FixedKDE", "Information", "InformationPlane"]
