"""Settings beside the weights of Stanford's ColBERT."""

from pathlib import Path
from typing import Any

import pytest

from headway.errors import SourceError
from headway.exporter.capture.capture import load_reference
from headway.exporter.source.settings import check_settings
from headway.exporter.source.source import open_source
from headway.exporter.source.stanford_colbert import check_metadata, is_stanford_colbert

from tests.support import retrieval_models


def test_its_config_is_known() -> None:
    assert is_stanford_colbert({"architectures": ["HF_ColBERT"]})
    assert not is_stanford_colbert({"architectures": ["BertModel"]}) and not is_stanford_colbert({})


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"similarity": "l2"}, "similarity is 'l2', and only 'cosine' is read"),
        ({"interaction": "flipr"}, "interaction is 'flipr', and only 'colbert' is read"),
        ({"relu": True}, "relu is 'True', and nothing would follow this setting"),
        ({"new_setting": 3}, "new_setting is '3'"),
    ],
)
def test_a_setting_that_nothing_follows_is_named(setting: dict[str, Any], message: str, tmp_path: Path) -> None:
    directory = retrieval_models.stanford_colbert(tmp_path, **setting)
    with pytest.raises(SourceError, match=message):
        check_settings(open_source(str(directory)))


def test_without_metadata_there_is_nothing_to_refuse(tmp_path: Path) -> None:
    check_metadata(tmp_path)


def test_its_encoder_alone_has_no_use_for_the_projection(tmp_path: Path) -> None:
    source = open_source(str(retrieval_models.stanford_colbert(tmp_path)), task="feature-extraction")
    with pytest.raises(SourceError, match=r"has no use for linear\.weight"):
        load_reference(source)
