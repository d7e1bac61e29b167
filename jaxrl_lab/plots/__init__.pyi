from . import panels as panels
from . import worlds as worlds
