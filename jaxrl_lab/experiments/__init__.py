"""From a description to a result: spec → population → run → store → statistics."""

import lazy_loader

# A name that is reached as an attribute has to be importable as one.
__getattr__, __dir__, _ = lazy_loader.attach(__name__, submodules={"statistics"})
