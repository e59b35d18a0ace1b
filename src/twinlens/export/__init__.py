"""Export: a run as files that need nothing of twinlens."""

from twinlens.export.data_set import write_embeddings as write_embeddings
from twinlens.export.projector import write_projector as write_projector
from twinlens.export.saved import Export as Export
from twinlens.export.saved import load_export as load_export
from twinlens.export.write import export_model as export_model
