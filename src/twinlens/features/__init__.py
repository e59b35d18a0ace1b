"""The feature cache: every picture and every text goes through an encoder once."""

from twinlens.features.pictures import encode_images as encode_images
from twinlens.features.store import Features as Features
from twinlens.features.texts import encode_texts as encode_texts
