"""The public names of the client: exported, importable and documented."""

import importlib
import inspect

import pytest

PACKAGES = ["cxr_client", "cxr_client.testing"]


@pytest.mark.parametrize("name", PACKAGES)
def test_every_exported_name_exists_and_is_documented(name: str) -> None:
    package = importlib.import_module(name)
    assert package.__doc__
    assert package.__all__ == sorted(set(package.__all__))
    for each in package.__all__:
        value = getattr(package, each)
        assert not each.startswith("_")
        if inspect.isclass(value) or inspect.isfunction(value):
            documentation = inspect.getdoc(value) or ""
            # A dataclass without docstring gets its signature for one.
            assert len(documentation) > 10, each
            assert not documentation.startswith(f"{each}("), each


@pytest.mark.parametrize("name", PACKAGES)
def test_every_public_name_is_exported_and_no_private_one(name: str) -> None:
    package = importlib.import_module(name)
    public = {
        each
        for each, value in vars(package).items()
        if not each.startswith("_") and not inspect.ismodule(value)
    }
    assert public == set(package.__all__)


@pytest.mark.parametrize(("name", "count"), [("Client", 6), ("AsyncClient", 7)])
def test_every_public_method_is_documented(name: str, count: int) -> None:
    client = getattr(importlib.import_module("cxr_client"), name)
    methods = inspect.getmembers(client, inspect.isfunction)
    public = [(each, method) for each, method in methods if not each.startswith("_")]
    assert len(public) == count
    assert [each for each, method in public if not inspect.getdoc(method)] == []
