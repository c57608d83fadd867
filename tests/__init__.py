"""The suite. Before any library is imported, it gets a home and a working folder of its own."""

from tests.support.isolation import isolate

isolate()
