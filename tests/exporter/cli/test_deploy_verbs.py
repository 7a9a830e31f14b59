"""`headway package`, `serve` and `tokenizer`: refusals with the next step."""

from pathlib import Path

from headway.exporter.export import Exported

from tests.support.command_line import Headway


def test_a_folder_that_is_there_is_not_replaced(headway: Headway, bert_bundle: Exported, tmp_path: Path) -> None:
    done = headway("tokenizer", bert_bundle.path, "--for", "android", "-o", tmp_path)
    assert done.returncode == 2 and f"{tmp_path} exists; remove it, or give another --out" in done.stderr


def test_only_a_bundle_for_the_web_is_served(headway: Headway, bert_bundle: Exported) -> None:
    done = headway("serve", bert_bundle.path)
    assert done.returncode == 2 and "export with --target web" in done.stderr
