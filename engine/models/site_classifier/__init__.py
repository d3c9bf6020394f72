"""Primary cancer site and histology of pathology reports, with the evidence beside every code."""

from engine.models.site_classifier.coder import TABLE, SiteCoder
from engine.models.site_classifier.options import Options

__all__ = ["DEFAULT", "TABLE", "Options", "SiteCoder", "load"]

load = SiteCoder.load
# It fills its table where no system is named.
DEFAULT = True
