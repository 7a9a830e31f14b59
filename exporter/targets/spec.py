"""What a target likes: the facts passes need to know about it, and no more."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TargetSpec:
    """`neuron_multiple` and `rank_multiple`: widths between two multiples cost as much as the next one up.

    `signed_values`: rounded values are int8 around zero point 0; else uint8 with a zero point. `rounds_tokens`: the runtime
    itself finds a range for each token as it comes. `int8_tables`: embedding tables may be looked up in whole numbers.
    """

    name: str
    neuron_multiple: int
    rank_multiple: int
    signed_values: bool = False
    rounds_tokens: bool = False
    int8_tables: bool = True

    def grown(self, width: int, most: int) -> int:
        """The width at the next multiple, at most `most`: a cut between multiples would save nothing more."""
        step = self.neuron_multiple
        return min(most, -(-width // step) * step)
