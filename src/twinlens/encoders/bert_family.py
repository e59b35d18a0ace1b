"""BERT and its relatives: KerasHub's networks, weights of presets or local folders.

Local folders are read here and not by KerasHub, which knows no ELECTRA, wants tensors
under the prefix of one kind of checkpoint only, leaves out RoBERTa's segment, and has
the approximate GELU where BERT was trained with the exact one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinlens.encoders.bert_weights import (
    ALBERT,
    DISTILBERT,
    SETTING,
    TensorNames,
    fill_bert,
    first_position,
)
from twinlens.encoders.folders import (
    check_folder,
    check_vocabulary,
    is_hugging_face,
    reading_sizes,
    tokenizer_config,
)
from twinlens.encoders.presets import from_preset
from twinlens.encoders.sentence_pieces import sentence_pieces
from twinlens.encoders.text_network import Casing, TextNetwork, tokens_digest


def _sizes(config: dict[str, Any]) -> dict[str, Any]:
    """What KerasHub calls the sizes of BERT's `config.json`."""
    return {
        "vocabulary_size": config["vocab_size"],
        "num_layers": config["num_hidden_layers"],
        "num_heads": config["num_attention_heads"],
        "hidden_dim": config["hidden_size"],
        "intermediate_dim": config["intermediate_size"],
        "dropout": config["hidden_dropout_prob"],
        "max_sequence_length": config["max_position_embeddings"],
        "num_segments": config["type_vocab_size"],
    }


def _distilbert_sizes(config: dict[str, Any]) -> dict[str, Any]:
    return {
        "vocabulary_size": config["vocab_size"],
        "num_layers": config["n_layers"],
        "num_heads": config["n_heads"],
        "hidden_dim": config["dim"],
        "intermediate_dim": config["hidden_dim"],
        "dropout": config["dropout"],
        "max_sequence_length": config["max_position_embeddings"],
    }


def _roberta_sizes(config: dict[str, Any]) -> dict[str, Any]:
    sizes = _sizes(config)
    del sizes["num_segments"]  # it has one, folded into positions
    sizes["max_sequence_length"] -= first_position(config)
    return sizes


def _albert_sizes(config: dict[str, Any]) -> dict[str, Any]:
    return _sizes(config) | {
        "embedding_dim": config["embedding_size"],
        "num_groups": config["num_hidden_groups"],
        "num_inner_repetitions": config["inner_group_num"],
    }


def _electra_sizes(config: dict[str, Any]) -> dict[str, Any]:
    sizes = _sizes(config) | {"embedding_dim": config["embedding_size"]}
    sizes["vocab_size"] = sizes.pop("vocabulary_size")
    return sizes


@dataclass(frozen=True)
class BertFamily:
    """One kind of network.

    KerasHub folds case by Unicode's NFKC_CF, which also turns `½` into `1⁄2` and `ß`
    into `ss`; these networks were trained on lowercased text. So WordPiece texts are
    lowercased before.

    Attributes:
        classes: KerasHub's prefix of `…Backbone` and `…Tokenizer`.
        model_type: in `config.json`.
        vocabulary: files of the tokenizer.
        sizes: from `config.json` to the backbone's arguments.
        lowercases: whether its tokenizer, where it has no setting for it, was made
            for lowercased texts without accents.
        tensors: what the checkpoint calls them.
    """

    classes: str
    model_type: str
    vocabulary: tuple[str, ...] = ("vocab.txt", "tokenizer_config.json")
    sizes: Callable[[dict], dict] = _sizes
    tensors: TensorNames = TensorNames()
    lowercases: bool = False


BPE = ("vocab.json", "merges.txt")
BERT_FAMILIES = {
    "bert": BertFamily("Bert", "bert", tensors=TensorNames(pooler="pooler.dense")),
    "distilbert": BertFamily(
        "DistilBert",
        "distilbert",
        sizes=_distilbert_sizes,
        tensors=DISTILBERT,
    ),
    "roberta": BertFamily("Roberta", "roberta", BPE, _roberta_sizes),
    "xlm_roberta": BertFamily(
        "XLMRoberta", "xlm-roberta", ("sentencepiece.bpe.model",), _roberta_sizes
    ),
    "albert": BertFamily(
        "Albert", "albert", ("spiece.model",), _albert_sizes, ALBERT, True
    ),
    "electra": BertFamily("Electra", "electra", sizes=_electra_sizes),
}


def bert_network(name: str, weights: str) -> TextNetwork:
    """A network of the family with published weights.

    Args:
        name: one of `BERT_FAMILIES`.
        weights: KerasHub preset, or a local folder of Hugging Face or KerasHub.

    Raises:
        InputError: weights that cannot be had, or belong to another network.
    """
    family = BERT_FAMILIES[name]
    if is_hugging_face(weights, SETTING):
        backbone, tokenizer, has_pooler = _from_folder(family, Path(weights))
    else:
        backbone, tokenizer = _from_preset(family, weights)
        has_pooler = isinstance(backbone.output, dict)
    casing = _casing(family, tokenizer, weights)
    return text_network(backbone, tokenizer, casing, has_pooler)


def text_network(backbone, tokenizer, casing: Casing, has_pooler: bool) -> TextNetwork:
    """A backbone and its tokenizer as a `TextNetwork`.

    Args:
        backbone: KerasHub's, of the family.
        tokenizer: KerasHub's, without lowercasing of its own.
        casing: what is done to texts before.
        has_pooler: whether the layer on the first token was trained.
    """
    output = backbone.output
    last = output["sequence_output"] if isinstance(output, dict) else output
    shared = isinstance(backbone.transformer_layers[0], list)  # ALBERT's groups
    states = [] if shared else [x.output for x in backbone.transformer_layers[:-1]]
    tokens = tokenizer.get_vocabulary()
    accents = getattr(tokenizer, "strip_accents", None)
    return TextNetwork(
        inputs=backbone.input,
        states=[*states, last],
        tokenizer=tokenizer,
        start=(tokenizer.start_token_id,),
        end=(tokenizer.end_token_id,),
        pad_id=tokenizer.pad_token_id,
        vocabulary=tokens_digest(
            [type(tokenizer).__name__, str(casing), str(accents), *tokens]
        ),
        longest=backbone.max_sequence_length,
        casing=casing,
        pooled=output["pooled_output"] if has_pooler else None,
        block_end=r"embeddings_dropout|embedding_projection|transformer_layer_\d+"
        r"|group_\d+_inner_layer_\d+",
    )


# === Where the weights come from ===


def _from_preset(family: BertFamily, weights: str) -> tuple:
    roles = ("Backbone", "Tokenizer")
    random = ", or ask for random weights with text_encoder.weights=none"
    classes = {role: family.classes + role for role in roles}
    found = from_preset(classes, weights, SETTING, random)
    return tuple(found[role] for role in roles)


def _from_folder(family: BertFamily, folder: Path) -> tuple:
    others = tuple(BERT_FAMILIES)
    config = check_folder(folder, family.model_type, family.vocabulary, SETTING, others)
    backbone_class, tokenizer_class = _classes(family)
    with reading_sizes(folder, SETTING):
        backbone = backbone_class(**family.sizes(config))
    has_pooler = fill_bert(backbone, folder, config, family.tensors)
    tokenizer = _tokenizer(family, tokenizer_class, folder)
    check_vocabulary(tokenizer, config, folder, SETTING)
    return backbone, tokenizer, has_pooler


def _classes(family: BertFamily) -> tuple:
    import keras_hub

    models = keras_hub.models
    return tuple(
        getattr(models, f"{family.classes}{kind}") for kind in ("Backbone", "Tokenizer")
    )


def _tokenizer(family: BertFamily, tokenizer_class, folder: Path):
    names = [name for name in family.vocabulary if name != "tokenizer_config.json"]
    files = [str(folder / name) for name in names]
    if family.vocabulary == BPE:
        return tokenizer_class(vocabulary=files[0], merges=files[1])
    (file,) = files
    if not file.endswith(".txt"):
        return sentence_pieces(tokenizer_class, Path(file).read_bytes())
    lowercase = tokenizer_config(str(folder), SETTING).get("do_lower_case", True)
    return tokenizer_class(vocabulary=file, lowercase=lowercase)


def _casing(family: BertFamily, tokenizer, weights: str) -> Casing:
    """What is done to texts before the tokenizer, which leaves it to us."""
    if hasattr(tokenizer, "lowercase"):
        lowercase, tokenizer.lowercase = tokenizer.lowercase, False
        tokenizer.strip_accents = strips_accents(weights, lowercase)
        return Casing(lowercase)
    said = tokenizer_config(weights, SETTING)
    lowercase = said.get("do_lower_case", family.lowercases)
    return Casing(lowercase, lowercase and not said.get("keep_accents", False))


def strips_accents(weights: str, lowercase: bool) -> bool:
    """Whether the vocabulary was made without accents; KerasHub never strips them.

    As in Hugging Face: what the folder says, else where the text is lowercased.
    """
    said = tokenizer_config(weights, SETTING).get("strip_accents")
    return lowercase if said is None else said
