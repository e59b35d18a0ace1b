"""Small random folders of vision transformers and pairs, with golden outputs.

`python tests/parity/make_vision.py [FOLDER]` writes `<name>/` for each, with what
`transformers` computes from it in `golden.npz`. It needs the extra `parity`. The same
versions write the same folders.
"""

import io
import json
import sys
from pathlib import Path

import numpy as np
import torch
import transformers

GOLDEN = Path(__file__).parents[1] / "golden" / "folders"
TEXTS = [
    "a red disc",
    "Two BLUE squares, and a green disc!",
    "it's 2021: the corner's 35 discs",
    "ein grünes Quadrat",
    "",
]
SENTENCES = TEXTS * 3 + ["the green square is on a red corner", "discs and squares"] * 5
WORDS = ("red", "disc", "discs", "blue", "squares", "gree", "20", "'s", "corner")
LAYERS = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
}
PICTURES = LAYERS | {"image_size": 24, "patch_size": 8}
LENGTH = 24  # tokens of the longest text
MEAN, DEVIATION = [0.48, 0.45, 0.4], [0.26, 0.25, 0.27]


def randomise(model: torch.nn.Module) -> torch.nn.Module:
    """Every weight far from its start, so that none can be forgotten unseen."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            is_norm = "norm" in name.lower() and name.endswith("weight")
            weight.copy_(noise * 0.3 + (1.0 if is_norm else 0.0))
    return model.eval()


def pixels(size: int) -> np.ndarray:
    """`(3, size, size, 3)` from 0 to 255."""
    random = np.random.default_rng(0)
    return random.uniform(0, 255, (3, size, size, 3)).astype(np.float32)


def scaled(images: np.ndarray) -> torch.Tensor:
    """What the network sees."""
    seen = (images / 255 - np.array(MEAN)) / np.array(DEVIATION)
    return torch.tensor(seen.transpose(0, 3, 1, 2), dtype=torch.float32)


def save(folder: Path, model, golden: dict) -> None:
    """The folder as it would be downloaded, and its golden outputs."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    said = {"image_mean": MEAN, "image_std": DEVIATION, "rescale_factor": 1 / 255}
    (folder / "preprocessor_config.json").write_text(json.dumps(said) + "\n")
    arrays = {
        name: value.detach().numpy() if isinstance(value, torch.Tensor) else value
        for name, value in golden.items()
    }
    np.savez_compressed(folder / "golden.npz", **arrays)


# === Vision transformers ===


def make_picture_networks(folder: Path) -> None:
    """ViT, DeiT, DINOv2 with and without registers, DINOv3."""
    t = transformers
    dino = {k: v for k, v in PICTURES.items() if k != "intermediate_size"}
    dino["layerscale_value"] = 0.5
    made = {
        "vit": t.ViTModel(t.ViTConfig(**PICTURES), add_pooling_layer=False),
        "deit": t.DeiTModel(t.DeiTConfig(**PICTURES), add_pooling_layer=False),
        "dinov2": t.Dinov2Model(t.Dinov2Config(**dino)),
        "dinov2_registers": t.Dinov2WithRegistersModel(
            t.Dinov2WithRegistersConfig(
                **dino, num_register_tokens=2, use_swiglu_ffn=True
            )
        ),
        "dinov3": t.DINOv3ViTModel(
            t.DINOv3ViTConfig(
                **PICTURES,
                num_register_tokens=2,
                layerscale_value=0.5,
                use_gated_mlp=True,
                hidden_act="silu",
            )
        ),
    }
    for name, model in made.items():
        randomise(model)
        golden = {}
        for size in (24, 40) if name.startswith("dino") else (24,):
            seen = model(scaled(pixels(size)), output_hidden_states=True)
            golden[f"layer_0_{size}"] = seen.hidden_states[1]
            golden[f"last_{size}"] = seen.last_hidden_state
        save(folder / name, model, golden)


# === Pairs ===


def make_pairs(folder: Path) -> None:
    """CLIP, MetaCLIP 2 and SigLIP."""
    t = transformers
    for name in ("clip", "metaclip_2", "siglip"):
        home = folder / name
        home.mkdir(parents=True, exist_ok=True)
        tokenizer, size = TOKENIZERS[name](home)
        text = LAYERS | {
            "vocab_size": size,
            "max_position_embeddings": LENGTH,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        }
        towers = {"text_config": text, "vision_config": PICTURES}
        if name == "clip":
            text["hidden_act"] = "gelu"  # LAION's
            config = t.CLIPConfig(**towers, projection_dim=12)
            model = randomise(t.CLIPModel(config))
        elif name == "metaclip_2":
            config = t.MetaClip2Config(**towers, projection_dim=12)
            model = randomise(t.MetaClip2Model(config))
        else:
            model = randomise(t.SiglipModel(t.SiglipConfig(**towers)))
        with torch.no_grad():
            model.logit_scale.fill_(np.log(110.0 if name == "siglip" else 50.0))
        save(home, model, pair_golden(model, tokenizer, name))


def pair_golden(model, tokenizer, name: str) -> dict:
    """States and projections of both towers, tokens, logits."""
    padded = "max_length" if name == "siglip" else "longest"
    tokens = tokenizer(TEXTS, padding=padded, max_length=LENGTH, return_tensors="pt")
    ids = tokens["input_ids"]
    lengths = [len(tokenizer(text)["input_ids"]) for text in TEXTS]
    mask = torch.arange(ids.shape[1])[None] < torch.tensor(lengths)[:, None]
    given = {} if name == "siglip" else {"attention_mask": mask.long()}
    seen = scaled(pixels(PICTURES["image_size"]))
    whole = model(input_ids=ids, pixel_values=seen, **given)
    vision = model.vision_model(pixel_values=seen, output_hidden_states=True)
    text = model.text_model(input_ids=ids, **given, output_hidden_states=True)
    norm = model.vision_model.post_layernorm
    return {
        "ids": ids,
        "lengths": np.array(lengths),
        "image_layer_0": vision.hidden_states[1],
        "image_last": norm(vision.hidden_states[-1]),
        "image_projection": model.get_image_features(pixel_values=seen).pooler_output,
        "text_layer_0": text.hidden_states[1],
        "text_last": text.last_hidden_state,
        "text_projection": model.get_text_features(
            input_ids=ids, **given
        ).pooler_output,
        "logits": whole.logits_per_image,
    }


def make_clip_tokenizer(folder: Path) -> tuple:
    """OpenAI's kind of byte pairs: words end in `</w>`.

    The merges are those that spell some words from the left; training them breaks ties
    in another way each time.
    """
    from tokenizers import pre_tokenizers

    merges = []
    for word in WORDS:
        left, *others = *word[:-1], f"{word[-1]}</w>"
        for right in others:
            merges.append(f"{left} {right}")
            left += right
    merges = list(dict.fromkeys(merges))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = alphabet + [f"{each}</w>" for each in alphabet]
    tokens += [merge.replace(" ", "") for merge in merges]
    tokens = [*dict.fromkeys(tokens), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    made = transformers.CLIPTokenizer.from_pretrained(folder)
    return made, len(tokens)


def sentence_pieces(folder: Path, file: str, **ids: int) -> None:
    """A unigram vocabulary of the texts."""
    import sentencepiece

    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([text for text in SENTENCES if text]),
        model_writer=written,
        vocab_size=60,
        hard_vocab_limit=False,
        normalization_rule_name="identity",  # the others take 240 KB
        minloglevel=2,
        **ids,
    )
    (folder / file).write_bytes(written.getvalue())


def make_metaclip_tokenizer(folder: Path) -> tuple:
    """XLM-V's: sentence pieces behind fairseq's four special tokens."""
    file = "sentencepiece.bpe.model"
    sentence_pieces(folder, file)
    made = transformers.XLMRobertaTokenizer.from_pretrained(folder)
    return made, len(made)


def make_siglip_tokenizer(folder: Path) -> tuple:
    """T5's kind of sentence pieces."""
    sentence_pieces(folder, "spiece.model", pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    made = transformers.SiglipTokenizer(str(folder / "spiece.model"))
    return made, made.vocab_size


TOKENIZERS = {
    "clip": make_clip_tokenizer,
    "metaclip_2": make_metaclip_tokenizer,
    "siglip": make_siglip_tokenizer,
}


def main(folder: Path = GOLDEN) -> None:
    """Writes all folders."""
    make_picture_networks(folder)
    make_pairs(folder)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
