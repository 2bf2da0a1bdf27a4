"""The list of cases: modules named cases_*.py add to it with the decorator."""
import collections

Case = collections.namedtuple("Case", "name function")
ALL = []


def case(name):
    """Registers a function of one argument, the Environment, as a case. It fails by raising."""
    if any(known.name == name for known in ALL):
        raise ValueError(f"two cases are named {name!r}")

    def register(function):
        ALL.append(Case(name, function))
        return function

    return register
