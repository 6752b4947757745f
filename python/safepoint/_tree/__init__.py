"""State trees: dicts, lists and the like around arrays, as JSON and named pieces of memory.

What JSON can say is written as it is, so that other programs can read it. The rest is an object whose first key begins
with a dollar sign: ``{"$tuple": [1, 2]}``. The page ``formats/python-state.md`` of the book has all of them.

Nothing here imports what a file names: classes are those that the caller gives, and pickle is used only where both the
saving and the loading side ask for it. Arrays are not copied; see ``saved_arrays`` and ``loaded_arrays``.
"""

from .classes import classes_of as classes_of
from .decoder import Decoder as Decoder
from .encoder import Encoded as Encoded, Encoder as Encoder
