"""Evaluation: a run measured on a split, and two runs compared."""

from twinlens.evaluation.comparison import compare as compare
from twinlens.evaluation.comparison import query_values as query_values
from twinlens.evaluation.composed import COMPOSED as COMPOSED
from twinlens.evaluation.composed import ComposedEmbedded as ComposedEmbedded
from twinlens.evaluation.composed import measure_composed as measure_composed
from twinlens.evaluation.composed import measure_ranks as measure_ranks
from twinlens.evaluation.composed import protocol_line as protocol_line
from twinlens.evaluation.measure import DIRECTIONS as DIRECTIONS
from twinlens.evaluation.measure import evaluate as evaluate
from twinlens.evaluation.measure import evaluate_run as evaluate_run
from twinlens.evaluation.measure import metric_names as metric_names
from twinlens.evaluation.result import Evaluation as Evaluation
from twinlens.evaluation.result import write_evaluation as write_evaluation
