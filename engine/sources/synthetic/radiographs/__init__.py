"""Synthetic frontal chest radiographs with known findings, boxes and reports.

study.py      what a study shows: patients, sites, findings that go together, where their signs lie
anatomy.py    a normal chest
signs.py      the signs, and their boxes
film.py       the image as a site's machine records it
reports.py    the report, and its noise
generate.py   settings, columns, records
"""

from engine.sources.synthetic.radiographs.generate import EDITION, SCHEMA, Radiographs, blocks, generate

__all__ = ["EDITION", "SCHEMA", "Radiographs", "blocks", "generate"]
