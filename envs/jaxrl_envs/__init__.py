"""Worlds for the study of learning dynamics; they know nothing of learning.

``make(id, **static)`` builds one, ``registered()`` lists the ids, ``to_gymnax`` and
``from_gymnax`` are the borders to other people's code. Names are loaded when first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
