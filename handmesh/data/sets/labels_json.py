"""Label files of hundreds of megabytes of JSON, read without what nobody needs of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from handmesh.data.sets.table import SetError

Slim = Callable[[dict[str, Any]], dict[str, Any]]
"""Makes an object of the file smaller, as soon as it is read; objects within it have been made smaller before."""


def read_labels(path: Path, slim: Slim | None = None, help_text: str = "unpack the set again") -> dict[str, Any]:
    """The object that a JSON file holds, each of its objects as `slim` leaves it.

    Raises SetError where the file is missing, cut short, or holds something else.
    """
    try:
        with path.open("rb") as file:
            content = json.load(file, object_hook=slim)
    except FileNotFoundError:
        raise SetError(f"{path} is missing; {help_text}") from None
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise SetError(f"{path} is damaged or cut short ({str(error)[:100]}): unpack it again") from None
    if not isinstance(content, dict):
        raise SetError(f"{path}: expected an object, got a {type(content).__name__}: unpack it again")
    return content


def without(*names: str) -> Slim:
    """A `Slim` that leaves out fields by name."""

    def slim(entry: dict[str, Any]) -> dict[str, Any]:
        for name in names:
            entry.pop(name, None)
        return entry

    return slim
