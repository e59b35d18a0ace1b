"""The heads of both forms in PyTorch, and the loops that a user writes around them."""

import numpy as np
import torch
from experiments.benchmarks.rounds import CORES
from torch import nn


class ResidualHead(nn.Module):
    """The default head of `twinlens.heads`, in PyTorch."""

    def __init__(self, dim: int, hidden: int = 512, embedding_dim: int = 256):
        super().__init__()
        self.enter = nn.Linear(dim, hidden)
        self.block = nn.Sequential(
            nn.LayerNorm(hidden), nn.GELU(), nn.Dropout(0.1), nn.Linear(hidden, hidden)
        )
        self.project = nn.Linear(hidden, embedding_dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`(n, dim)` features to `(n, embedding_dim)` unit vectors."""
        x = self.enter(x)
        return nn.functional.normalize(self.project(x + self.block(x)), dim=-1)


class PrototypeHead(nn.Module):
    """The first prototype's head, in PyTorch."""

    def __init__(self, dim: int, embedding_dim: int = 256):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(dim, embedding_dim),
            nn.GELU(),
            nn.LayerNorm(embedding_dim),
            nn.Linear(embedding_dim, embedding_dim),
            nn.Dropout(0.1),
            nn.LayerNorm(embedding_dim),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`(n, dim)` features to `(n, embedding_dim)` unit vectors."""
        return nn.functional.normalize(self.layers(x), dim=-1)


HEADS = {"prototype": PrototypeHead, "residual": ResidualHead}


class TorchTrainer:
    """Two heads, a learned scale, AdamW."""

    def __init__(self, images: np.ndarray, texts: np.ndarray, form: str):
        torch.set_num_threads(CORES)
        self.images, self.texts = torch.from_numpy(images), torch.from_numpy(texts)
        self.image_head = HEADS[form](images.shape[1])
        self.text_head = HEADS[form](texts.shape[1])
        self.log_scale = nn.Parameter(torch.tensor(float(np.log(1 / 0.07))))
        weights = [*self.image_head.parameters(), *self.text_head.parameters()]
        self.optimizer = torch.optim.AdamW([*weights, self.log_scale], lr=1e-3)

    def step(self, images: torch.Tensor, texts: torch.Tensor) -> None:
        """One update on a batch of pairs."""
        scale = self.log_scale.exp().clamp(max=100)
        logits = scale * self.image_head(images) @ self.text_head(texts).T
        target = torch.arange(len(logits))
        cross_entropy = nn.functional.cross_entropy
        loss = (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def indexed(self, batch_size: int, pairs: int) -> None:
        """The loop that slices tensors by a permutation."""
        order = torch.randperm(len(self.images))[:pairs]
        for rows in order.split(batch_size):
            self.step(self.images[rows], self.texts[rows])

    def loaded(self, batch_size: int, pairs: int) -> None:
        """The loop over a DataLoader."""
        data = torch.utils.data.TensorDataset(self.images[:pairs], self.texts[:pairs])
        loader = torch.utils.data.DataLoader(data, batch_size, shuffle=True)
        for images, texts in loader:
            self.step(images, texts)
