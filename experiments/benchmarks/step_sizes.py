"""The sizes of the phase-2 step that both frameworks take."""

BATCH = 32  # pairs
SIZE = 299  # pixels a side
LENGTH = 32  # tokens a text
LAYERS, NUM_HEADS, WIDTH = 6, 12, 384  # of the text network
VOCABULARY = 30_000
RATE = 1e-5  # of learning
