"""An index as a service: HTTP API, search page, ratings by people."""

from twinlens.serve.api import build_app as build_app
from twinlens.serve.limits import Limits as Limits
from twinlens.serve.service import Service as Service
