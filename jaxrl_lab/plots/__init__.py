"""Figures: one matplotlib style, one function per kind of panel.

Loaded when something is drawn: matplotlib takes longer to import than a small run to compile.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
