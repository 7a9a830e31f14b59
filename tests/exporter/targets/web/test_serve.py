"""Pages served for this machine."""

from pathlib import Path
from urllib.request import urlopen

import pytest

from headway.errors import UsageError
from headway.exporter.export import Exported
from headway.exporter.targets.web.serve import ISOLATION, server

from tests.support.serving import serving


def test_pages_are_served_with_the_headers_that_threads_need(sentence: Exported, tmp_path: Path) -> None:
    with serving(sentence.path) as url, urlopen(url) as response:
        assert {name: response.headers[name] for name in ISOLATION} == ISOLATION
    with pytest.raises(UsageError, match="--target web"):
        server(tmp_path)
