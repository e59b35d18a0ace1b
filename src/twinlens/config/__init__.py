"""Settings: their defaults, and experiments that differ from them."""

from twinlens.config.encoders import ImageEncoderSettings as ImageEncoderSettings
from twinlens.config.encoders import PairSettings as PairSettings
from twinlens.config.encoders import TextEncoderSettings as TextEncoderSettings
from twinlens.config.files import BUILT_IN as BUILT_IN
from twinlens.config.files import config_from as config_from
from twinlens.config.files import differences as differences
from twinlens.config.files import load_config as load_config
from twinlens.config.files import override as override
from twinlens.config.files import to_toml as to_toml
from twinlens.config.search import IndexSettings as IndexSettings
from twinlens.config.search import SearchSettings as SearchSettings
from twinlens.config.section import Section as Section
from twinlens.config.section import setting as setting
from twinlens.config.settings import CacheSettings as CacheSettings
from twinlens.config.settings import Config as Config
from twinlens.config.settings import DataSettings as DataSettings
from twinlens.config.settings import EvaluationSettings as EvaluationSettings
from twinlens.config.settings import HeadSettings as HeadSettings
from twinlens.config.settings import LossSettings as LossSettings
from twinlens.config.settings import Phase1Settings as Phase1Settings
from twinlens.config.settings import Phase2Settings as Phase2Settings
from twinlens.config.settings import TrainingSettings as TrainingSettings
