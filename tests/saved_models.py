"""Small SavedModels as TF-Hub has them: pictures, a preprocessor, a BERT."""

import tensorflow as tf

SIZE = 8  # pixels a side
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "red", "blue", "disc", "square")
START, END = 2, 3
LENGTH = 12  # tokens that the preprocessor gives
DIM = 6
PIXELS = tf.TensorSpec([None, SIZE, SIZE, 3])
TOKENS = ("input_word_ids", "input_mask", "input_type_ids")


def weight(*shape, seed=0, **more):
    values = tf.random.stateless_normal(shape, (seed, sum(shape)), stddev=0.3)
    return tf.Variable(values, **more)


class Picture(tf.Module):
    """A convolution, statistics as batch normalisation has them, a dense layer."""

    def __init__(self, seed=0, grid=False):
        super().__init__()
        self.kernel = weight(3, 3, 3, 4, seed=seed, name="conv/kernel")
        self.dense = weight(4, 5, seed=seed, name="dense/kernel")
        self.mean = tf.Variable(tf.zeros(4), trainable=False, name="norm/mean")
        self.grid = grid

    @tf.function
    def __call__(self, pixels, training=False):
        grid = tf.nn.conv2d(pixels, self.kernel, 2, "SAME")
        if training:
            mean = tf.reduce_mean(grid, [0, 1, 2])
            self.mean.assign(0.9 * self.mean + 0.1 * mean)
        grid = tf.nn.relu(grid - self.mean)
        if self.grid:
            return grid
        return tf.einsum("nc,cd->nd", tf.reduce_mean(grid, [1, 2]), self.dense)


class Preprocessor(tf.Module):
    """Words by a table; one token before a text and one behind, then padding."""

    def __init__(self, words=WORDS):
        super().__init__()
        self.table = tf.lookup.StaticVocabularyTable(
            tf.lookup.KeyValueTensorInitializer(
                tf.constant(words), tf.range(len(words), dtype=tf.int64)
            ),
            num_oov_buckets=1,
        )

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def __call__(self, texts):
        words = tf.strings.split(tf.strings.lower(texts))[:, : LENGTH - 2]
        ids = tf.cast(self.table.lookup(words), tf.int32)
        edge = tf.ones_like(ids[:, :0].to_tensor(shape=[None, 1]))
        ids = tf.concat([START * edge, ids, END * edge], axis=1)
        tokens = ids.to_tensor(shape=[None, LENGTH])
        mask = tf.sequence_mask(ids.row_lengths(), LENGTH, tf.int32)
        return dict(zip(TOKENS, (tokens, mask, tf.zeros_like(mask)), strict=True))


class Bert(tf.Module):
    """Embeddings, a mean over the other tokens, a pooler on the first one."""

    def __init__(self, seed=0):
        super().__init__()
        self.table = weight(len(WORDS) + 1, DIM, seed=seed, name="embeddings")
        self.dense = weight(DIM, DIM, seed=seed, name="dense/kernel")
        self.pooler = weight(DIM, DIM, seed=seed + 1, name="pooler/kernel")

    @tf.function
    def __call__(self, inputs, training=False):
        mask = tf.cast(inputs["input_mask"], tf.float32)[:, :, None]
        first = tf.gather(self.table, inputs["input_word_ids"])
        if training:
            first = tf.nn.dropout(first, 0.1)
        mean = tf.reduce_sum(first * mask, 1, keepdims=True) / tf.reduce_sum(
            mask, 1, keepdims=True
        )
        last = tf.tanh(tf.einsum("nld,de->nle", first + mean, self.dense))
        return {
            "encoder_outputs": [first, last],
            "sequence_output": last,
            "pooled_output": tf.tanh(last[:, 0] @ self.pooler),
        }


def traced(module, spec):
    for training in (False, True):
        module.__call__.get_concrete_function(spec, training=training)
    return module


def save_picture(folder, spec=PIXELS, **settings):
    module = traced(Picture(**settings), spec)
    tf.saved_model.save(module, str(folder))
    return str(folder)


def save_reusable(folder):
    """As TF-Hub asks: it says which variables train; here the last one alone."""
    module, root = traced(Picture(), PIXELS), tf.train.Checkpoint()
    root.__call__ = module.__call__
    root.variables = [module.kernel, module.mean, module.dense]
    root.trainable_variables = [module.dense]
    tf.saved_model.save(root, str(folder))
    return str(folder)


def save_signature(folder, body=None, *specs):
    """A SavedModel that cannot be called, but has a signature; of a picture."""
    root = tf.Module()
    root.module = Picture()
    body = body or (lambda images: {"default": root.module(images)})
    function = tf.function(body, input_signature=specs or [PIXELS])
    tf.saved_model.save(root, str(folder), {"serving_default": function})
    return str(folder)


def save_preprocessor(folder, function=None):
    root = Preprocessor()
    if function is not None:
        root.__call__ = tf.function(
            function, input_signature=[tf.TensorSpec([None], tf.string)]
        )
    tf.saved_model.save(root, str(folder))
    return str(folder)


def save_bert(folder, **settings):
    spec = {name: tf.TensorSpec([None, None], tf.int32, name) for name in TOKENS}
    tf.saved_model.save(traced(Bert(**settings), spec), str(folder))
    return str(folder)


class Detector(tf.Module):
    """As TF-Hub's Mask R-CNN: the same detections in every picture."""

    def __init__(self, boxes, classes, scores, masks):
        super().__init__()
        self.boxes, self.classes = tf.constant(boxes), tf.constant(classes)
        self.masks, self.scores = tf.constant(masks), tf.Variable(scores)  # a weight

    @tf.function(input_signature=[tf.TensorSpec([1, None, None, 3], tf.uint8)])
    def __call__(self, pictures):
        scores = tf.map_fn(tf.identity, self.scores)  # a loop, as real ones have
        return {
            "detection_boxes": self.boxes[None],
            "detection_classes": self.classes[None],
            "detection_scores": scores[None],
            "detection_masks": self.masks[None],
            "num_detections": tf.shape(pictures)[:1],
        }


def save_detector(folder, detections):
    """Detections, each a box, a class, a score and a mask `(rows, columns)`."""
    boxes, classes, scores, masks = zip(*detections, strict=True)
    tf.saved_model.save(
        Detector(
            [list(map(float, box)) for box in boxes],
            list(map(float, classes)),
            list(scores),
            [[list(map(float, row)) for row in mask] for mask in masks],
        ),
        str(folder),
    )
    return str(folder)
