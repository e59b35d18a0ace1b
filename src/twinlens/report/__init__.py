"""The report of a run: one page that needs nothing else, and its figures."""

from twinlens.report.answers import draw_answers as draw_answers
from twinlens.report.attention import AttentionExample as AttentionExample
from twinlens.report.attention import draw_attention as draw_attention
from twinlens.report.composed_examples import composed_examples as composed_examples
from twinlens.report.composed_examples import draw_composed as draw_composed
from twinlens.report.composed_page import write_composed_report as write_composed_report
from twinlens.report.labels import draw_label_metrics as draw_label_metrics
from twinlens.report.pictures import draw_samples as draw_samples
from twinlens.report.retrieved import draw_retrieved as draw_retrieved
from twinlens.report.write import attention_examples as attention_examples
from twinlens.report.write import write_report as write_report
