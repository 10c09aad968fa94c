"""What search finds: descriptions, not the source code below them. A hook of MkDocs."""


def on_page_content(html: str, **_: object) -> str:
    """Mark the source code of a page as not searched."""
    source = '<details class="mkdocstrings-source"'
    return html.replace(source, f"{source} data-search-exclude")
