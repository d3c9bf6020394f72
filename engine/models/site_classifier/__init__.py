"""Primary cancer site and histology of pathology reports, with the evidence beside every code."""

from engine.models.base import ModelSpec
from engine.models.site_classifier.coder import SiteCoder
from engine.models.site_classifier.coder import load as _load


def load(spec: ModelSpec) -> SiteCoder:
    """See `engine.models.base.System`."""
    return _load(spec)
