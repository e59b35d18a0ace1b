"""The networks of phase 2 in PyTorch, and the step that a user writes for them."""

import numpy as np
import torch
from experiments.benchmarks.rounds import CORES, Job
from experiments.benchmarks.step_sizes import LAYERS, LENGTH, NUM_HEADS, RATE, WIDTH
from experiments.benchmarks.vision import torchvision
from transformers import BertConfig, BertModel

from twinlens.config import Config


class Peer(torch.nn.Module):
    """The same networks as a PyTorch user would write them."""

    def __init__(self) -> None:
        super().__init__()
        self.images = torchvision.models.inception_v3(
            aux_logits=True, init_weights=False
        )
        self.images.AuxLogits, self.images.fc = None, torch.nn.Identity()
        self.images = self.images.to(memory_format=torch.channels_last)
        sizes = {"num_hidden_layers": LAYERS, "hidden_size": WIDTH}
        sizes |= {"num_attention_heads": NUM_HEADS}
        config = BertConfig(**sizes, intermediate_size=4 * WIDTH)
        self.texts = BertModel(config)
        self.image_head, self.text_head = self._head(2048), self._head(WIDTH)
        self.log_scale = torch.nn.Parameter(torch.tensor(2.66))

    def _head(self, dim: int) -> torch.nn.Module:
        head = Config().head
        return torch.nn.Sequential(
            torch.nn.Linear(dim, head.hidden_dim),
            torch.nn.GELU(),
            torch.nn.Dropout(head.dropout),
            torch.nn.Linear(head.hidden_dim, head.embedding_dim),
        )

    def forward(self, pixels, tokens):
        """Logits of the batch."""
        self.images.eval()  # its batch normalisation is frozen
        images = torch.nn.functional.normalize(self.image_head(self.images(pixels)))
        states = self.texts(tokens).last_hidden_state.mean(1)
        texts = torch.nn.functional.normalize(self.text_head(states))
        return self.log_scale.exp() * images @ texts.T


def step(dtype: str, pixels: np.ndarray) -> Job:
    """One update in PyTorch.

    Args:
        dtype: `"float32"` or `"bfloat16"` (autocast).
        pixels: `(n, size, size, 3)`, 0…255.
    """
    torch.set_num_threads(CORES)
    model = Peer()
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), RATE)
    data = torch.from_numpy(pixels.transpose(0, 3, 1, 2) / 127.5 - 1).float()
    data = data.to(memory_format=torch.channels_last)
    tokens = torch.ones((len(pixels), LENGTH), dtype=torch.long)
    target = torch.arange(len(pixels))
    cross_entropy = torch.nn.functional.cross_entropy

    def update() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
            logits = model(data, tokens).float()
        loss = (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        loss.item()

    return update
