"""The report of a run: one page that needs nothing else, and its figures."""

from twinlens.report.answers import draw_answers as draw_answers
from twinlens.report.labels import draw_label_metrics as draw_label_metrics
from twinlens.report.page import write_report as write_report
from twinlens.report.pictures import draw_samples as draw_samples
