"""Rows of the asymmetric advantages, and of the memory of what was sampled."""

ARGUMENTS = {
    "advantage": {
        "attenuate": [{"positive": 0.2}, {"positive": 0.5, "negative": 0.1}],
        "attenuate_by_progress": [{"alpha": 0.5}],
        "matched_shift": [{"positive": 0.2}],
        "matched_scale": [{"positive": 0.2}],
        "difficulty_focus": [{}, {"hard": 0.3}, {"denominator": "released"}],
        "variance_normalized": [{}],
    },
    "update": {"sampled_actions": [{}]},
}
