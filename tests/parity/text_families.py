"""Small random folders of every text family, made by transformers, with its outputs.

`python tests/parity/text_families.py` writes those that the default suite reads; it
needs `pip install -e ".[parity]"`.
"""

import json
from pathlib import Path

import numpy as np

TEXTS = (
    "a red disc",
    "Two blue squares, and a green disc on the corner!",
    "a man's dog doesn't run 2 fast",
    "",
)
GOLDEN = Path(__file__).parents[1] / "golden" / "folders"
SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 90,
}
SPECIAL = {"wordpiece": ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]}
CORPUS = [text.lower() for text in TEXTS if text] * 3


def make(family: str, folder: Path) -> None:
    """A folder as `save_pretrained` leaves it, and `golden.npz` with its outputs.

    The outputs are the ids of each text, the states of all layers and, where the
    network has it, the pooler's output, for each text alone.
    """
    import torch
    import transformers

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    vocabulary_size = TOKENIZERS[family](folder)
    model = MODELS[family](transformers, vocabulary_size)
    for parameter in model.parameters():  # biases and norms too
        torch.nn.init.normal_(parameter, std=0.3)
    model.eval().save_pretrained(folder)
    tokenizer = READERS[family](transformers).from_pretrained(folder)
    found = {}
    for number, text in enumerate(TEXTS):
        inputs = tokenizer(text, return_tensors="pt")
        inputs.pop("token_type_ids", None)  # all zero
        with torch.no_grad():
            out = model(**inputs, output_hidden_states=True)
        found[f"ids{number}"] = inputs["input_ids"][0].numpy()
        states = [state[0].numpy() for state in out.hidden_states[1:]]
        found[f"states{number}"] = np.stack(states)
        if getattr(out, "pooler_output", None) is not None:
            found[f"pooled{number}"] = out.pooler_output[0].numpy()
    np.savez_compressed(folder / "golden.npz", **found)


# === Networks ===


def _bert(transformers, size: int):
    config = transformers.BertConfig(vocab_size=size, **SIZES)
    return transformers.BertModel(config)


def _distilbert(transformers, size: int):
    config = transformers.DistilBertConfig(
        vocab_size=size,
        dim=SIZES["hidden_size"],
        n_layers=SIZES["num_hidden_layers"],
        n_heads=SIZES["num_attention_heads"],
        hidden_dim=SIZES["intermediate_size"],
        max_position_embeddings=SIZES["max_position_embeddings"],
    )
    return transformers.DistilBertModel(config)


def _roberta(transformers, size: int):
    config = transformers.RobertaConfig(vocab_size=size, type_vocab_size=1, **SIZES)
    return transformers.RobertaModel(config, add_pooling_layer=False)


def _xlm_roberta(transformers, size: int):
    config = transformers.XLMRobertaConfig(vocab_size=size, type_vocab_size=1, **SIZES)
    return transformers.XLMRobertaModel(config, add_pooling_layer=False)


def _albert(transformers, size: int):
    config = transformers.AlbertConfig(vocab_size=size, embedding_size=8, **SIZES)
    return transformers.AlbertModel(config)


def _electra(transformers, size: int):
    config = transformers.ElectraConfig(vocab_size=size, embedding_size=8, **SIZES)
    return transformers.ElectraModel(config)


MODELS = {
    "bert": _bert,
    "distilbert": _distilbert,
    "roberta": _roberta,
    "xlm_roberta": _xlm_roberta,
    "albert": _albert,
    "electra": _electra,
}


# === Tokenizers ===


def _word_pieces(folder: Path) -> int:
    letters = sorted({c for text in CORPUS for c in text if not c.isspace()})
    words = sorted({word for text in CORPUS for word in text.split()})
    tokens = [*SPECIAL["wordpiece"], *letters, *(f"##{c}" for c in letters)]
    tokens += [word for word in words if word.isalpha() and len(word) > 2]
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n", "utf-8")
    said = {"do_lower_case": True, "tokenizer_class": "BertTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(said), "utf-8")
    return len(tokens)


def _byte_pairs(folder: Path) -> int:
    from tokenizers import ByteLevelBPETokenizer

    tokenizer = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer.train_from_iterator(TEXTS * 3, 300, special_tokens=special)
    tokenizer.save_model(str(folder))
    return tokenizer.get_vocab_size()


def _sentence_pieces(folder: Path, name: str, **options) -> int:
    import io

    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS),
        model_writer=model,
        vocab_size=60,
        hard_vocab_limit=False,
        normalization_rule_name="identity",
        minloglevel=2,
        **options,
    )
    (folder / name).write_bytes(model.getvalue())
    loaded = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    return len(loaded)


def _albert_pieces(folder: Path) -> int:
    special = {"unk_id": 1, "pad_id": 0, "bos_id": -1, "eos_id": -1}
    return _sentence_pieces(
        folder,
        "spiece.model",
        user_defined_symbols=["[CLS]", "[SEP]", "[MASK]"],
        **special,
    )


def _xlm_pieces(folder: Path) -> int:
    return _sentence_pieces(folder, "sentencepiece.bpe.model") + 2  # pad and mask


TOKENIZERS = {
    "bert": _word_pieces,
    "distilbert": _word_pieces,
    "roberta": _byte_pairs,
    "xlm_roberta": _xlm_pieces,
    "albert": _albert_pieces,
    "electra": _word_pieces,
}
READERS = {
    "bert": lambda t: t.BertTokenizer,
    "distilbert": lambda t: t.BertTokenizer,
    "roberta": lambda t: t.RobertaTokenizer,
    "xlm_roberta": lambda t: t.XLMRobertaTokenizer,
    "albert": lambda t: t.AlbertTokenizer,
    "electra": lambda t: t.BertTokenizer,
}

if __name__ == "__main__":
    for each in MODELS:
        make(each, GOLDEN / each)
