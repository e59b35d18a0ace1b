"""Search: an index and the model that made it, asked by text, picture or item."""

from twinlens.search.build import add_items as add_items
from twinlens.search.build import build_index as build_index
from twinlens.search.build import items_of as items_of
from twinlens.search.build import items_of_triplets as items_of_triplets
from twinlens.search.build import pictures_in as pictures_in
from twinlens.search.labels import evaluate_labels as evaluate_labels
from twinlens.search.labels import group_scores as group_scores
from twinlens.search.labels import labelled_items as labelled_items
from twinlens.search.labels import tune as tune
from twinlens.search.model import SearchModel as SearchModel
from twinlens.search.model import open_model as open_model
from twinlens.search.queries import Query as Query
from twinlens.search.search_index import SearchIndex as SearchIndex
from twinlens.search.triplets import TunedStages as TunedStages
from twinlens.search.triplets import evaluate_stages as evaluate_stages
from twinlens.search.triplets import tune_stages as tune_stages
