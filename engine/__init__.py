"""The engine, floor by floor: docs and README say what for."""

# As in pyproject.toml: where the code has only travelled along with a job, no package tells it.
__version__ = "0.6.0"
