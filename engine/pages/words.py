"""Decisions, reasons and failures in words, for pages. The tables keep the short names."""

from collections.abc import Callable, Mapping

from engine.records import CODES, FINDINGS
from engine.registry import histology_name, is_site, site_name

DECISIONS = {
    "auto": "coded",
    "review": "to review",
    "not_applicable": "not applicable",
    "failed": "failed",
}

# If nothing is decided, a row says whether its report was read as it should be.
_READ = DECISIONS | {"auto": "read", "review": "to be checked"}
_OF_TABLE = {CODES: DECISIONS, FINDINGS: DECISIONS | {"auto": "decided"}}

REASONS = {
    "low_confidence": "The model is not sure enough of the code.",
    "low_margin": "Another code is nearly as likely.",
    "no_threshold": "No probability was shown to be high enough for this code, so a person always looks.",
    "out_of_distribution": "The text is unlike the reports the model was trained on.",
    "multiple_primaries_suspected": "The report may describe more than one primary tumour.",
    "metastatic_specimen": "The specimen may be a metastasis; the primary may lie elsewhere.",
    "section_missing": "A section that is needed is missing.",
    "text_truncated": "The report is longer than the model reads; its end was not read.",
    "unreadable_text": "Too little of the text consists of words: a bad scan, or no text at all.",
    "no_diagnosis_text": "The text names no diagnosis that the rules know; they read English only.",
    "no_reportable_tumour": "The text states no tumour that a registry must record: benign, denied, earlier, or a relative's.",
    "rare_class_below_support": "The model has seen too few examples of this code.",
    "site_morphology_invalid": "Site and histology do not go together.",
    "unseen_code_pair": "The two codes never occurred together in training.",
    "other_language": "The text is not in the language that the model was trained for.",
    "near_threshold": "The probability of a finding is too near its threshold to be clear.",
    "no_promise": "Nothing could be promised for a finding, because it was too rare in the studies that were checked.",
    "inconsistent_evidence": "The evidence and the answers do not fit together.",
    "image_unreadable": "An image of the study could not be read; the answers rest on the others.",
}

FAILURES = {
    "unreadable_file": "The file could not be read.",
    "parse_error": "The record could not be parsed.",
    "missing_text": "The record has no text.",
    "invalid_encoding": "The text is not in the configured encoding.",
    "duplicate_id": "An earlier record has the same id and kept it.",
    "too_large": "The text is larger than the limit.",
    "out_of_memory": "There was not enough memory for this record.",
    "killed_worker": "The record killed the process that read it, twice.",
    "model_error": "The model failed on this record.",
    "not_coded": "The run that is explained has no answer for this record.",
    "text_changed": "The text is not the one that was coded.",
    "missing_image": "The study has no image.",
    "not_an_image": "The file is not an image, or is broken.",
    "too_many_pixels": "The image has more pixels than the limit.",
    "unsupported_pixels": "The image's pixels are stored in a way that is not supported.",
    "bad_box": "A box does not lie within its image.",
}


def decisions(table: str) -> Mapping[str, str]:
    """The decisions of a table's rows in words."""
    return _OF_TABLE.get(table, _READ)


_NAMES: Mapping[str, Callable[[str], str]] = {
    "site": lambda code: site_name(code) if is_site(code) else code,
    "histology": histology_name,
}


def name_of(task: str, code: str | None) -> str:
    """The name of a code, empty if it has none."""
    name = _NAMES[task](code) if code and task in _NAMES else ""
    return name if name != code else ""
