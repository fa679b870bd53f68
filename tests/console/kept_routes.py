"""What FastAPI finds out about endpoints it finds out once for all apps of a process: two thirds of what one costs.

An endpoint is a new function in each app, but of the same code: its signature is known by that.
"""

import types
from dataclasses import replace

import pytest
from fastapi import routing

_LISTS = ("path_params", "query_params", "header_params", "cookie_params", "body_params", "dependencies")


@pytest.fixture(scope="session")
def routes():
    """{name in fastapi.routing: what does the same, and keeps it}"""
    makers = {
        "get_dependant": _dependants,
        "get_parameterless_sub_dependant": _by_arguments,
        "get_typed_return_annotation": _return_annotations,
        "create_model_field": _by_arguments,
    }
    return {name: make(getattr(routing, name)) for name, make in makers.items()}


@pytest.fixture(scope="module", autouse=True)
def kept_routes(routes):
    with pytest.MonkeyPatch.context() as patch:
        for name, keeps in routes.items():
            patch.setattr(routing, name, keeps)
        yield


def _dependants(original):
    kept = {}

    def get_dependant(*, path, call, **more):
        if not _known_by_code(call):
            return original(path=path, call=call, **more)
        key = (path, call.__code__, *more.items())
        defaults = (call.__defaults__, call.__kwdefaults__)
        if key not in kept or kept[key][0] != defaults:
            kept[key] = (defaults, original(path=path, call=call, **more))
        found = kept[key][1]
        return replace(found, call=call, **{name: list(getattr(found, name)) for name in _LISTS})

    return get_dependant


def _return_annotations(original):
    kept = {}

    def get_typed_return_annotation(call):
        if not _known_by_code(call):
            return original(call)
        if call.__code__ not in kept:
            kept[call.__code__] = original(call)
        return kept[call.__code__]

    return get_typed_return_annotation


def _known_by_code(call):
    """Its annotations are text, which means the same in all functions of one code, as they are of one module."""
    return (
        isinstance(call, types.FunctionType)
        and not hasattr(call, "__wrapped__")
        and all(isinstance(annotation, str) for annotation in call.__annotations__.values())
    )


def _by_arguments(original):
    kept = {}

    def make(**arguments):
        key = tuple(arguments.items())
        try:
            if key not in kept:
                kept[key] = original(**arguments)
        except TypeError:  # not to be hashed
            return original(**arguments)
        return kept[key]

    return make
