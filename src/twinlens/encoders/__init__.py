"""Encoders: pictures and captions to features, chosen by name."""

from twinlens.encoders.base import ImageEncoder as ImageEncoder
from twinlens.encoders.base import TextEncoder as TextEncoder
from twinlens.encoders.image import IMAGE_ENCODERS as IMAGE_ENCODERS
from twinlens.encoders.image import image_encoder as image_encoder
from twinlens.encoders.text import TEXT_ENCODERS as TEXT_ENCODERS
from twinlens.encoders.text import text_encoder as text_encoder
