"""Fits and measures of the studies of Prompt-bioMRC.

`passage_assertions.csv` has what 150 passages of TCGA reports (`pathology_entities` of the public data; test split) say of their
marked mentions, where it is not `affirmed`: the passage's id, the mention's offsets in it, and the assertion. One reader judged
it, a language model and no clinician, before the rules were applied to the passages. It is there to measure, never to tune.
"""
