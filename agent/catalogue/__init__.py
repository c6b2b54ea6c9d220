"""What uv touches on a machine: the catalogue of its path patterns, and pure functions over it. Standard library only.

`uv_paths.toml` is the data, with sources. `load` reads it, `classify` names the pattern of a path, `expand` names the
places of a pattern on one machine, `templated` takes everything personal out of a path.
"""

from agent.catalogue.classify import classify
from agent.catalogue.expand import Machine, canary_paths, expand, roots
from agent.catalogue.load import load
from agent.catalogue.model import Bucket, Catalogue, Pattern, ProbeSpec, Signer, Workflow
from agent.catalogue.normalise import normalise
from agent.catalogue.template import templated, templated_directory

__all__ = [
    "Bucket",
    "Catalogue",
    "Machine",
    "Pattern",
    "ProbeSpec",
    "Signer",
    "Workflow",
    "canary_paths",
    "classify",
    "expand",
    "load",
    "normalise",
    "roots",
    "templated",
    "templated_directory",
]
