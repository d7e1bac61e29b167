"""jaxrl_lab: a laboratory for the dynamics of reinforcement learning at small scale.

``import jaxrl_lab as lab`` is light: names are loaded when they are first used.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
