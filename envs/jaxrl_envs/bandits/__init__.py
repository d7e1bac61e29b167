"""One-step and few-step worlds whose every quantity has a closed form."""
