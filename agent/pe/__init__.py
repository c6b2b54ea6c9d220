"""What AppLocker can know of a file: Authenticode hash, publisher, product, name, version. Standard library only."""

from agent.pe.identity import FileIdentity, identify
from agent.pe.source import PeError

__all__ = ["FileIdentity", "PeError", "identify"]
