"""What stands before the names of a class is told from the class itself."""

from headway.exporter.source.checkpoints.class_names import foreign_prefix

CONFIG = {"model_type": "distilbert", "dim": 32, "n_heads": 4, "n_layers": 3, "vocab_size": 9}
NAMES = ("distilbert.embeddings.word_embeddings.weight", "distilbert.transformer.layer.2.ffn.lin1.weight")


def test_the_prefix_is_what_the_class_does_not_have() -> None:
    assert foreign_prefix([f"student.model.{name}" for name in NAMES], CONFIG) == "student.model."
    assert foreign_prefix(NAMES, CONFIG) == ""
    assert foreign_prefix(["distilbert." + name for name in NAMES], CONFIG) == "distilbert."


def test_an_unknown_family_has_no_prefix() -> None:
    assert foreign_prefix(["a.b.weight"], {"model_type": "mine"}) == ""
