"""torchvision beside a PyTorch build that it was not made for.

Its compiled operators, none of which the benchmarks use, are missing then; without
their names it does not import. Import it from here before `transformers`.
"""

import torch

OPERATORS = torch.library.Library("torchvision", "DEF")
for name in ("nms", "qnms"):
    OPERATORS.define(f"{name}(Tensor boxes, Tensor scores, float limit) -> Tensor")

import torchvision  # noqa: E402, F401
from torchvision import transforms  # noqa: E402, F401
