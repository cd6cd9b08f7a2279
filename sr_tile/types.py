"""Array annotations with shapes, live only where something loads jaxtyping first (the tests do), else plain names.

jaxtyping is no dependency of sr-tile: without it `Float32[Array, "c h w"]` is a note to the reader, and `Array` itself.
"""

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

Array = np.ndarray

if TYPE_CHECKING:
    from typing import Annotated as Float32
    from typing import Annotated as Pixels
elif "jaxtyping" in sys.modules:
    from jaxtyping import Float32
    from jaxtyping import Shaped as Pixels
else:

    class _Unchecked:
        def __getitem__(self, item: tuple[Any, str]) -> Any:
            return item[0]

    Float32 = Pixels = _Unchecked()

__all__ = ["Array", "Float32", "Pixels"]
