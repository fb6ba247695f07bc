"""A sitecustomize for which gunicorn is not installed."""

import importlib.machinery

find = importlib.machinery.PathFinder.find_spec


def find_spec(name, path=None, target=None):
    return None if name == "gunicorn" else find(name, path, target)


importlib.machinery.PathFinder.find_spec = staticmethod(find_spec)
