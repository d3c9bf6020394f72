"""What systems of findings in image studies share: decisions, evidence, explanations, calibration."""
