"""Primary cancer site and histology of pathology reports, with the evidence beside every code."""

from engine.models.site_classifier.coder import SiteCoder, load
from engine.models.site_classifier.options import Options

__all__ = ["Options", "SiteCoder", "load"]
