"""The atlas: one page with a card per phenomenon, from run directories or the published verdicts.

``lab.atlas.build(["runs"], "atlas.html")``. A reader opens the page from a disk, without a server
or a network. Nothing here imports jax, and nothing at all before it is used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
