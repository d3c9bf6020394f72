"""Names of ICD-O-3 codes."""

from engine.registry.morphology import histologies, histology_name
from engine.registry.topography import is_site, site_name, sites

__all__ = ["histologies", "histology_name", "is_site", "site_name", "sites"]
