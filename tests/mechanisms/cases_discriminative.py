"""Rows of the weight of hard negatives and of the constraint that goes with it."""

ARGUMENTS = {
    "weight": {"hard_negatives": [{}, {"temperature": 0.5, "score": "ratio"}]},
    "regularizer": {"hinge_kl": [{"limit": 0.01, "coefficient": 2.0}]},
}
