"""Fixtures shared by the tests of the reader for phones."""

import pytest

from tests.support.phone_tokenizers import Both, bert_tokenizer


@pytest.fixture(scope="session")
def uncased(tmp_path_factory: pytest.TempPathFactory) -> Both:
    return Both(bert_tokenizer(), tmp_path_factory.mktemp("uncased"))
