"""Policies: ``make(id, env, **static)`` builds one for a world's spaces."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
