"""What stands in a PowerShell script, by tree-sitter's grammar: errors, functions, refusals, commands, in their order.

No PowerShell with the AppLocker module runs here. What a script decides is worked out again in Python; its functions
are held to the text that was worked out, and its refusals to come before it writes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import tree_sitter
import tree_sitter_powershell


@dataclass(frozen=True, slots=True)
class Step:
    """A refusal (an `if` that only throws), an early end (one that only returns), or a command, at a place in the text.

    `text`: the condition, or the command's name.
    """

    place: int
    kind: str
    text: str


def nodes_of(script: bytes) -> Iterator[tree_sitter.Node]:
    """Every node, parents before children, in the order of the text."""
    tree = tree_sitter.Parser(tree_sitter.Language(tree_sitter_powershell.language())).parse(script)
    waiting = [tree.root_node]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += reversed(node.children)


def errors_in(script: bytes) -> list[str]:
    """Where the grammar finds no meaning."""
    return [f"line {node.start_point[0] + 1}" for node in nodes_of(script) if node.type == "ERROR" or node.is_missing]


def functions_of(script: bytes) -> Mapping[str, str]:
    """A digest of each function's text, whatever its line ends."""
    found = {}
    for node in nodes_of(script):
        if node.type == "function_statement":
            (name,) = (child for child in node.children if child.type == "function_name")
            found[_text(name)] = hashlib.sha256(_text(node).encode()).hexdigest()[:16]
    return found


def steps_of(script: bytes) -> list[Step]:
    """Refusals, early ends and commands outside functions, in order."""
    functions = [node for node in nodes_of(script) if node.type == "function_statement"]
    spans = [(node.start_byte, node.end_byte) for node in functions]
    steps = []
    for node in nodes_of(script):
        if any(begin <= node.start_byte < end for begin, end in spans):
            continue
        if node.type == "if_statement":
            condition = _text(next(child for child in node.children if child.type == "pipeline"))
            block = _text(next(child for child in node.children if child.type == "statement_block"))
            ends = re.fullmatch(r"\{\s*(?:(?:\$\w+ = |Write-Output )[^\n]*\s+)*(throw|return)\b[^\n]*\s*\}", block)
            if ends is not None:
                steps.append(Step(node.start_byte, ends[1], condition))
        elif node.type == "command_name":
            steps.append(Step(node.start_byte, "command", _text(node)))
    return steps


def _text(node: tree_sitter.Node) -> str:
    assert node.text is not None
    return node.text.decode().replace("\r\n", "\n")
