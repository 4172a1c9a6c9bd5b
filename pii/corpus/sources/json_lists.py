"""A JSON list cut in its elements."""

import json
import re

JSON, JSON_SPACE = json.JSONDecoder(), re.compile(r"[ \t\n\r]*")


def json_elements(text: str) -> list[str]:
    """The elements of a JSON list, each still as JSON, so that every row goes one way. Raises ValueError or
    RecursionError."""
    elements: list[str] = []
    end = after_space(text, 0)
    while not elements or text[end] == ",":
        start = after_space(text, end + 1)  # after the bracket or the comma
        if not elements and text[start : start + 1] == "]":
            end = start
            break
        _, end = JSON.raw_decode(text, start)
        elements.append(text[start:end])
        end = after_space(text, end)
        if text[end : end + 1] not in (",", "]") or end == len(text):
            raise ValueError("no end of the list")
    if after_space(text, end + 1) < len(text):
        raise ValueError("more than a list")
    return elements


def after_space(text: str, start: int) -> int:
    """Where something other than JSON's white space comes, from `start` on."""
    space = JSON_SPACE.match(text, start)
    assert space  # of any length
    return space.end()
