"""Primary cancer site and histology of pathology reports, with the evidence beside every code."""

from engine.models.site_classifier.coder import SiteCoder, load

__all__ = ["SiteCoder", "load"]
