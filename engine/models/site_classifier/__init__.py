"""Primary cancer site and histology of pathology reports, with the evidence beside every code."""

from engine.models.site_classifier.coder import SiteCoder

__all__ = ["TABLE", "Options", "SiteCoder", "load"]

TABLE, Options, load = SiteCoder.table, SiteCoder.Options, SiteCoder.load
