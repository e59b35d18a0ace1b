"""Where phase 2 runs: one device, several, or several machines, with one code."""

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import tensorflow as tf

from twinlens.encoders.base import normalisations
from twinlens.errors import InputError

CLUSTER = "TF_CONFIG"  # names all machines and which of them this is
LOST = (  # what TensorFlow raises here when another machine dies
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)


class Replicas:
    """Copies of a model that take a share of every batch each.

    All pairs of a batch meet in one loss, wherever they were computed, and each
    replica ends a step with the same weights: those that one device would have had
    with the whole batch, except for dropout, which each draws for its share.

    Args:
        strategy: a TensorFlow strategy; by default the one in scope, which is one
            device.

    Attributes:
        count: replicas on all machines.
        worker: which machine this is; 0 is the chief, which alone writes files.
        workers: how many machines there are.

    Reference:
        https://www.tensorflow.org/guide/distributed_training.
    """

    def __init__(self, strategy: tf.distribute.Strategy | None = None) -> None:
        self.strategy = strategy or tf.distribute.get_strategy()
        self.count = self.strategy.num_replicas_in_sync
        resolver = self.strategy.cluster_resolver
        cluster = resolver.cluster_spec().as_dict() if resolver else {}
        self.workers = len(cluster.get("worker", [])) or 1
        self.worker = resolver.task_id if self.workers > 1 else 0
        self._here = self.count // self.workers  # replicas on this machine

    @property
    def is_chief(self) -> bool:
        """Whether this process writes the run."""
        return self.worker == 0

    def check(self, batch_size: int) -> None:
        """Refuses a batch that replicas cannot share evenly.

        Raises:
            InputError: the number of replicas does not divide it.
        """
        if batch_size % self.count:
            better = max(1, round(batch_size / self.count)) * self.count
            raise InputError(
                f"phase2.batch_size is {batch_size}, which {self.count} replicas "
                f"cannot share evenly. Set it to {better}, or another multiple of "
                f"{self.count}."
            )

    def synchronise(self, towers: Iterable[keras.Model]) -> None:
        """Lets batch normalisation that trains see the whole batch, not a share.

        It has to be called before a tower's passes are traced.
        """
        for layer in (each for tower in towers for each in normalisations(tower)):
            layer.synchronized = self.count > 1

    def has_lost(self, error: tf.errors.OpError) -> bool:
        """Whether an error says that another machine is gone."""
        return self.workers > 1 and isinstance(error, LOST)

    @contextlib.contextmanager
    def telling_of_losses(self) -> Iterator[None]:
        """Inside, the loss of another machine is an error that says what to do.

        Raises:
            InputError: another machine is gone.
        """
        try:
            yield
        except LOST as error:
            if not self.has_lost(error):
                raise
            raise InputError(
                "Another machine has left the training; what it said is on its own "
                "screen. The last checkpoint is kept: give every machine its command "
                "again, and all go on from there."
            ) from None

    # === Calls from outside ===
    def function(self, body: Callable, signature: tuple | None = None) -> Callable:
        """`body` compiled, to be run by every replica; `signature` of its arguments."""
        return tf.function(
            lambda *arguments: self.strategy.run(body, args=arguments),
            signature,
            autograph=False,  # nothing to convert, and tracing is quicker without
        )

    def first(self, result: Any) -> Any:
        """The first replica's part of what a function returned."""
        return tf.nest.map_structure(
            lambda each: self.strategy.experimental_local_results(each)[0], result
        )

    def each(self, result: list) -> list:
        """A function's list of results, each with a row for every replica here."""
        parts = [self.strategy.experimental_local_results(each) for each in result]
        return [tf.stack(of_all) for of_all in parts]

    def from_chief(self, value: Any) -> Any:
        """The chief's value, on every machine; all have to call this together.

        Args:
            value: what JSON can hold; only the chief's counts.
        """
        if self.workers == 1:
            return value
        text = json.dumps(value).encode() if self.is_chief else b""
        (length,) = self._from_chief([len(text)])
        padded = list(text) + [0] * (length - len(text))
        return json.loads(bytes(self._from_chief(padded)))

    def _from_chief(self, values: list[int]) -> list[int]:
        mine = tf.constant(values, tf.int32)

        def body():  # a sum to which only the first replica of all adds something
            return self.summed([tf.where(self._place() == 0, mine, 0)])[0]

        return self.first(self.strategy.run(body)).numpy().tolist()

    # === Calls of a body ===
    def share(self, values: Any, among_all: bool = False) -> Any:
        """This replica's rows of tensors.

        Args:
            values: tensors, nested in any way, whose rows replicas share: those of
                this machine, or all of them.
            among_all: whether the rows are for the replicas of all machines.
        """
        if self.count == 1:
            return values
        place, parts = self._place(), self.count
        if not among_all:
            place, parts = place % self._here, self._here

        def rows(value):
            size = tf.shape(value)[0] // parts
            return value[place * size : (place + 1) * size]

        with tf.device("CPU"):  # only the share travels to the replica's device
            return tf.nest.map_structure(rows, values)

    def own(self, values: list) -> list:
        """This replica's rows of what `each` gave."""
        return [value[self._place() % self._here] for value in values]

    def gathered(self, values: Any) -> Any:
        """The rows of all replicas, in the order of replicas, nested as `values`."""
        if self.count == 1:
            return values
        context = tf.distribute.get_replica_context()
        return tf.nest.map_structure(
            lambda value: context.all_gather(value, axis=0), values
        )

    def summed(self, values: list) -> list:
        """Sums over all replicas."""
        if self.count == 1 or not values:
            return values
        context = tf.distribute.get_replica_context()
        return context.all_reduce(tf.distribute.ReduceOp.SUM, values)

    def _place(self):
        return tf.distribute.get_replica_context().replica_id_in_sync_group


def find_replicas() -> Replicas:
    """Replicas on the machines of `TF_CONFIG`, or on all GPUs of this one, or one.

    It has to be called before TensorFlow computes anything, where there are several
    machines.

    Raises:
        InputError: `TF_CONFIG` is not what TensorFlow expects.
    """
    if os.environ.get(CLUSTER):
        _check_cluster(os.environ[CLUSTER])
        return Replicas(tf.distribute.MultiWorkerMirroredStrategy())
    gpus = tf.config.list_logical_devices("GPU")
    if len(gpus) > 1:
        return Replicas(tf.distribute.MirroredStrategy([gpu.name for gpu in gpus]))
    return Replicas()


def _check_cluster(text: str) -> None:
    expected = (
        '{"cluster": {"worker": ["host0:12345", "host1:12345"]}, '
        '"task": {"type": "worker", "index": 0}}'
    )
    try:
        found = json.loads(text)
        workers, task = found["cluster"]["worker"], found["task"]
        right = task["type"] == "worker" and 0 <= task["index"] < len(workers)
    except (ValueError, TypeError, KeyError):
        right = False
    if not right:
        raise InputError(
            f"{CLUSTER} is {text!r}. Expected, with every machine's address and this "
            f"machine's index: {expected}"
        )
