"""CLEAR: every answer about a radiograph is a sum over named observations.

Source: Han et al., CLEAR (medRxiv 10.64898/2026.01.15.26344222). Between the image and the answer stands a bank of observations
from reports; `bank` has the algebra.
"""

from engine.models.clear.system import Clear, Options
from engine.records import IMAGES

__all__ = ["READS", "TABLE", "Clear", "Options", "load"]

READS, TABLE, load = IMAGES, Clear.table, Clear.load
