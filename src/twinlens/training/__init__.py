"""Training: phase 1 trains the heads on cached features."""

from twinlens.training.course import HeadTraining as HeadTraining
from twinlens.training.loop import HeadTrainer as HeadTrainer
from twinlens.training.pairs import PairFeatures as PairFeatures
from twinlens.training.phase1 import load_heads as load_heads
from twinlens.training.phase1 import train_phase1 as train_phase1
