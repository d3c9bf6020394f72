"""What may differ from the starting commit, each with its reason. Everything that is not named here is a fault."""

from fnmatch import fnmatchcase

_NULLS = "a value that is not there is null in calibration.json, where it was left out; both read the same"
_SYSTEM = "config.json names the system, so that every job knows whose checkpoint it has"
_DPLA = "options that nobody had a reason to set are gone; what they were by default is how the head works"
_SOFT = "the table of the words nearest to a soft prompt is gone: nobody read it"
_PRODUCT = "measured on the model as runs load it, its adapter merged into the encoder, and not on the one in training"
_FROZEN = "a further head is trained by jobs.train from a base whose encoder stays as it is"
_CARD = "the cards that come along say which command makes such a head now; the one that made it is gone"
_SUMS = "sums are added up in another order, which changes last bits"
_CLS = "the head cls does not come along any more, as it is worse than the model's own; it can be trained"

_CARDS = (
    "Trained on token states of the encoder above, which stayed as it is, by (only before)",
    "Trained on token states of the encoder above, which stayed as it is, by version 0.1.0's (only now)",
    "The command above is version 0.1.0's. To train such a head now: (only now)",
    "To train such a head now: (only now)",
    "    python -m jobs.train model=site_classifier experiment=head model.base=<model> model.head=dpla *",
    " (only now)",
)

# (pattern of `<case>/<file>: <what>` as the report prints it, largest distance of numbers or None for any, why)
ALLOWED: tuple[tuple[str, float | None, str], ...] = (
    ("*/calibration.json: tasks.*.isotonic (only now, null)", None, _NULLS),
    ("*/calibration.json: tasks.*.class_thresholds (only now, null)", None, _NULLS),
    ("*/calibration.json: tasks.*.centres (only now, null)", None, _NULLS),
    ("*/calibration.json: tasks.*.farthest (only now, null)", None, _NULLS),
    ("*/config.json: system (only now)", None, _SYSTEM),
    ("*/config.json: branches (only before)", None, _DPLA),
    ("*/config.json: phrase_samples (only before)", None, _DPLA),
    ("*/config.json: deep (only now)", None, "told always; it was told only where it was true"),
    ("*/heads/cls/*: only before", None, _CLS),
    ("*/README.md: [*] `model.head=cls`: *; more in heads/cls/README.md (only before)", None, _CLS),
    ("*/README.md: [*] `model.head=cls`: * (left out of this folder) (only now)", None, _CLS),
    *((f"{place}/README.md: {line}", None, _CARD) for place in ("shipped/*", "calibrated*", "trained_head*") for line in _CARDS),
    ("evaluated*/metrics/metrics.parquet: value", 1e-12, _SUMS),
    ("trained_*/decoding.json: figures.test_f1 (only before)", None, "the model that is measured is the one that is kept"),
    ("trained_*/soft_words.parquet: only before", None, _SOFT),
    ("trained_*/figures.json: calibration.ece", 1e-5, _PRODUCT),
    ("trained_*/figures.json: calibration.brier", 1e-5, _PRODUCT),
    ("trained_head/*README.md:     python -m jobs.train_head * (only before)", None, _FROZEN),
    ("trained_head/*README.md:     python -m jobs.train model.base=* (only now)", None, _FROZEN),
    ("trained_head/heads/*/figures.json: head (only now)", None, "figures of a further head name it"),
)


def reason(what: str, largest: float | None) -> str | None:
    """Why something may differ by so much; None where it may not."""
    for pattern, most, why in ALLOWED:
        if fnmatchcase(what, pattern) and (most is None or (largest is not None and largest <= most)):
            return why
    return None
