"""Templates: a value that is missing is an error, and each folder is opened once."""

from pathlib import Path

import jinja2
import pytest

from headway.exporter.package.templates import environment


def test_a_name_without_a_value_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.j2").write_text("{% if there %}\n{{ value | json }} {{ rest }}\n{% endif %}\n")
    template = environment(tmp_path).get_template("a.j2")
    assert template.render(there=True, value='a"b', rest=1) == '"a\\"b" 1\n'
    with pytest.raises(jinja2.UndefinedError, match="rest"):
        template.render(there=True, value=1)
    assert environment(tmp_path) is environment(tmp_path)
