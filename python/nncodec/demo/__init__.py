"""``nncodec demo``: a real trained network through the codec and back, with what it costs and what it does to accuracy.

The network (``digits.nncz``) and 540 held-out digits (``test_slice.nncz``) are part of the package, both in our own
format; ``scripts/train_digits.py`` made them. Neither torch nor scikit-learn is needed here.
"""

from nncodec.demo.report import Report, Row, run

__all__ = ["Report", "Row", "run"]
