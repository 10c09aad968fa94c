"""The HTML that a room makes: its files, and its templates, in which whatever is put in is only shown."""

import functools
from importlib import resources

import jinja2


def file_of(room: str, name: str) -> str:
    """Return the text of a file that lies in a room.

    Args:
        room (`str`): The `__package__` of who asks.
        name (`str`): Of the file.
    """
    return resources.files(room).joinpath(name).read_text(encoding="utf-8")


@functools.cache
def templates_of(room: str) -> jinja2.Environment:
    """Return what renders the templates of a room; each is read once.

    Args:
        room (`str`): The `__package__` of who asks.
    """
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(functools.partial(file_of, room)),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["capitalize_first"] = lambda text: text[:1].upper() + text[1:]
    return environment
