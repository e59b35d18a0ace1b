"""The index: vectors and items on disk, exact or approximate neighbours."""

from twinlens.index.duplicates import near_duplicates as near_duplicates
from twinlens.index.filters import parse_filter as parse_filter
from twinlens.index.folder import check_free as check_free
from twinlens.index.vector_index import VectorIndex as VectorIndex
from twinlens.index.vector_index import create as create
from twinlens.index.vector_index import load as load
