"""Tell at which rank two factors are worth their matmuls."""


def break_even(rows: int, columns: int) -> int:
    """Return the largest rank at which `A B` takes fewer operations, and fewer bytes, than `W [rows, columns]`."""
    return (rows * columns - 1) // (rows + columns)
