"""Rows of the advantages that look across prompts."""

ARGUMENTS = {
    "advantage": {
        "consistency_gated": [{}, {"steepness": 20.0, "threshold": 1.5}],
        "batch_scaled": [{}],
    },
}
