"""Rows of the decoupled clip and of averaged parameters."""

ARGUMENTS = {
    "surrogate": {
        "decoupled_clip": [
            {"tree": "reference"},
            {"low": 0.1, "high": 0.3, "cap": 2.0, "tree": "reference"},
        ]
    },
    "update": {
        "parameter_average": [
            {"decay": 0.9, "tree": "reference"},
            {"decay": 1.0, "tree": "reference"},
        ]
    },
}
