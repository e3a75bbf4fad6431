"""Training methods that make a network more compressible. Needs torch.

All share one interface: ``result = nncodec.train.METHOD(...).fit(model, loader, loss)`` gives ``result.model``,
``result.codec`` (what makes ``encode`` store exactly those weights) and ``result.history``.
"""

from nncodec.train.base import Method as Method
from nncodec.train.base import Result as Result
from nncodec.train.compact import Compact as Compact
from nncodec.train.compact import analyse as analyse
from nncodec.train.compensated import CompensatedClustering as CompensatedClustering
from nncodec.train.distillation import Distillation as Distillation
from nncodec.train.distillation import distill as distill
from nncodec.train.enc import ENC as ENC
from nncodec.train.fold import fold_batchnorm as fold_batchnorm
from nncodec.train.mlprune import MLPrune as MLPrune
from nncodec.train.pipeline import Pipeline as Pipeline
from nncodec.train.pipeline import PipelineResult as PipelineResult
from nncodec.train.posttraining import PostTraining as PostTraining
from nncodec.train.rounding import Round as Round
from nncodec.train.slq import MLQ as MLQ
from nncodec.train.slq import SLQ as SLQ
from nncodec.train.straight_through import StraightThrough as StraightThrough
from nncodec.train.universal import Universal as Universal
from nncodec.train.weightless import Weightless as Weightless
