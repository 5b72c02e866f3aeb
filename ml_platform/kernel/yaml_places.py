"""Where in a YAML file a field stands, for errors that point at it."""

from collections.abc import Sequence
from pathlib import Path

import yaml


def line_of(path: Path | str, fields: Sequence[str | int], *, document: int = 0) -> int | None:
    """The line of a field of a document, such as ("attributes", "aggregations", 0, "column"), counted from 1.

    Of a field that is not there it is the line of what it belongs to; of a file that cannot be read, None.
    """
    try:
        nodes = list(yaml.compose_all(Path(path).read_text(), Loader=yaml.SafeLoader))
        node, line = nodes[document], nodes[document].start_mark.line
    except (OSError, yaml.YAMLError, IndexError, AttributeError):
        return None
    for field in fields:
        found = _below(node, field)
        if found is None:
            break
        line, node = found
    return line + 1


def _below(node: yaml.Node, field: str | int) -> tuple[int, yaml.Node] | None:
    """Line and node of one field of a mapping, or of one entry of a list."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(field):
                return key.start_mark.line, value
    if isinstance(node, yaml.SequenceNode) and str(field).isdigit() and int(field) < len(node.value):
        entry = node.value[int(field)]
        return entry.start_mark.line, entry
    return None
