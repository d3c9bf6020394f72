"""Rationales: what people or a generator named as the reason of a label, as training samples, and which of them are worth it."""
