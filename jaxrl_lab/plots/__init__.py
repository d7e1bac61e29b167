"""Figures: one matplotlib style, one function per kind of panel."""
