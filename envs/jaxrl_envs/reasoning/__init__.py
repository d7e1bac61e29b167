"""Token sequences with a verifier and a known number of valid derivations."""
