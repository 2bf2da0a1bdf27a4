"""The list of cases: modules named cases_*.py add to it with the decorator."""
import collections

from .repository import Repository

Case = collections.namedtuple("Case", "name function")
ALL = []
REGISTRIES = ("docker_registry", "referrers_registry")


def case(name):
    """Registers a function of one argument, the Environment, as a case. It fails by raising."""
    if any(known.name == name for known in ALL):
        raise ValueError(f"two cases are named {name!r}")

    def register(function):
        ALL.append(Case(name, function))
        return function

    return register


def on_each_registry(name):
    """Registers a case for each registry. The function takes the Environment and a Repository of its own there."""

    def register(function):
        for registry in REGISTRIES:
            def run(env, registry=registry):
                function(env, Repository(env.repository(getattr(env.services, registry))))

            case(f"{name}, {registry.replace('_', ' ')}")(run)
        return function

    return register
