"""The compressed forms that are read, from the modules that read them."""

from . import markdown, places


def table() -> str:
    """Return a table of the forms in the order in which they are looked for: name, description, module."""
    rows = []
    for form in places.load(places.FORMS)():
        text = form.__doc__
        if not text:
            raise ValueError(f"{form.__name__}: a form says what it recognizes in its docstring")
        rows.append([form.NAME, markdown.sentence(text.split("\n\n")[0]), f"`{form.__name__.split('.')[-1]}.py`"])
    return markdown.table(["form", "what is recognized", "module"], rows)
