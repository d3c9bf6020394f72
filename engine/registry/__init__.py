"""Names of ICD-O-3 codes."""

from engine.registry.names import code_name, histologies, histology_name, is_site, site_name, sites

__all__ = ["code_name", "histologies", "histology_name", "is_site", "site_name", "sites"]
