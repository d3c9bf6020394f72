"""Names of ICD-O-3 codes."""

from engine.registry.morphology import histologies, histology_name
from engine.registry.names import code_name
from engine.registry.topography import is_site, site_name, sites

__all__ = ["code_name", "histologies", "histology_name", "is_site", "site_name", "sites"]
