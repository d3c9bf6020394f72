"""Findings of chest radiographs in the words of reports: the 14 names of CheXpert, a rule labeler, and single observations.

Names and definitions of the findings: Irvin et al., CheXpert (AAAI 2019), table 1; the phrases are our own.
"""

FINDINGS = (
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
    "No Finding",
)
