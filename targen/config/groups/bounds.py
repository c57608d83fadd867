"""Numbers, names and paths with their bounds, and how strictly settings are checked."""

import os
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field

STRICT = ConfigDict(extra="forbid", use_attribute_docstrings=True)  # the text below a field is its description

Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]
TrainingSeed = Annotated[int, Field(ge=0, lt=2**32)]  # numpy takes no larger one
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Name = Annotated[str, Field(min_length=1)]
PathText = Annotated[str, AfterValidator(os.path.expanduser)]  # of a file or folder; ~ is the home directory
