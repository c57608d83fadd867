"""Records as a sequence that a notebook shows as a table, and that becomes a data frame."""

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, overload

from targen.runtime.jsonl import Json

if TYPE_CHECKING:
    import pandas as pd

Record = TypeVar("Record", covariant=True)
SHOWN = 10  # rows of a table in a notebook


class Table(Sequence[Record], Generic[Record]):
    """Records of a dataclass, in order. `columns` gives those of a data frame for one of them."""

    def __init__(self, kind: type[Any], records: Iterable[Record], columns: Callable[[Any], Json] = asdict) -> None:
        self._kind, self._records, self._columns = kind, tuple(records), columns

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> Record | Self:
        if isinstance(index, int):
            return self._records[index]
        part = copy.copy(self)
        part._records = self._records[index]
        return part

    def to_pandas(self) -> "pd.DataFrame":
        """A data frame, a row for each record; an empty one has the columns of the records that it might have."""
        import pandas as pd

        names = None if self else [field.name for field in fields(self._kind)]
        return pd.DataFrame([self._columns(record) for record in self], columns=names)

    def __repr__(self) -> str:
        return repr(self.to_pandas()) if self else "an empty table"

    def _repr_html_(self) -> str:
        """As a notebook shows it: escaped, and without formulas where a text has dollar signs."""
        if not self:
            return "<p>an empty table</p>"
        classes = "tex2jax_ignore mathjax_ignore"
        html: str = self.to_pandas().to_html(max_rows=SHOWN, show_dimensions=True, notebook=True, classes=classes)
        return html
