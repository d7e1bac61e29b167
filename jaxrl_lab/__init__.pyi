from . import exact as exact
from . import measures as measures
from . import mechanisms as mechanisms
from . import phenomena as phenomena
from . import plots as plots
from . import policies as policies
from . import recipes as recipes
from . import rollouts as rollouts
from .experiments import statistics as statistics
from .experiments.population import Arm as Arm
from .experiments.population import traces as traces
from .experiments.pretrain import pretrain as pretrain
from .experiments.result import Result as Result
from .experiments.run import debug as debug
from .experiments.run import make_arm as make_arm
from .experiments.run import run_arms as run_arms
from .experiments.run import sweep as sweep
from .experiments.run import train as train
from .learners.policy_gradient import PolicyGradient as PolicyGradient
from .mechanisms.core import mechanism as mechanism
from .phenomena import load as load
from .phenomena import resume as resume
from .phenomena import run as run
from .recipes import Recipe as Recipe
from .recipes import recipe as recipe

__version__: str
