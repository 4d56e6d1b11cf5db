"""A name that is imported."""

from torchair.core import _concrete_graph
