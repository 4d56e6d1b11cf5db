"""The release that is emulated: that of the torch beside it. Read by the build, too."""

from importlib.metadata import version

__version__ = version("torch").partition("+")[0]
