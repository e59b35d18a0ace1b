"""Retrieval metrics in NumPy: embeddings to ranks, ranks to metrics, and how sure.

Example:
    ```python
    ranks = retrieval_ranks(images, image_ids, texts, text_image_ids)
    values = per_query(ranks.text_to_image, ranks.num_images)
    metrics = summarise(values)  # {"recall@1": 0.25, …, "median_rank": 4.0, …}
    intervals = bootstrap_intervals(values, groups=text_image_ids)
    ```
"""

from .composed import composed_values as composed_values
from .composed import target_ranks as target_ranks
from .groups import best_threshold as best_threshold
from .groups import group_f1 as group_f1
from .labels import LabelMetrics as LabelMetrics
from .labels import label_metrics as label_metrics
from .labels import top_k_label_metrics as top_k_label_metrics
from .ranks import TIE_TOLERANCE as TIE_TOLERANCE
from .ranks import PositiveRanks as PositiveRanks
from .ranks import RetrievalRanks as RetrievalRanks
from .ranks import first_match_ranks as first_match_ranks
from .ranks import retrieval_ranks as retrieval_ranks
from .retrieval import average_precision as average_precision
from .retrieval import fold_ranks as fold_ranks
from .retrieval import fold_slices as fold_slices
from .retrieval import is_median as is_median
from .retrieval import mean_over_folds as mean_over_folds
from .retrieval import ndcg_at_k as ndcg_at_k
from .retrieval import per_query as per_query
from .retrieval import recall_at_k as recall_at_k
from .retrieval import retrieval_metrics as retrieval_metrics
from .retrieval import success_at_percent as success_at_percent
from .retrieval import summarise as summarise
from .scores import is_collapsed as is_collapsed
from .scores import top_k as top_k
from .statistics import bootstrap_intervals as bootstrap_intervals
from .statistics import holm as holm
from .statistics import paired_randomisation_test as paired_randomisation_test
