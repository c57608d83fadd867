"""What the models of a plan take: cells that differ in their arm or seed share it."""

from collections.abc import Hashable
from dataclasses import replace

from targen.config.settings import Settings
from targen.runtime.errors import UserError
from train.grid.cells import Cell
from train.loop.saving import load_shapes
from train.models.loading import Loaded
from train.planning.cell_plan import Size
from train.planning.fitting import NOT_COUNTED, memory_of, planned_device, with_device_batch
from train.planning.gpu_hours import operations
from train.planning.memory import MicroBatchSize, disk_use


class PlannedModels:
    """Each model's shapes are read once, and what it takes is counted once for each size."""

    def __init__(self) -> None:
        self._shapes: dict[Hashable, tuple[Loaded | None, tuple[str, ...]]] = {}
        self._sizes: dict[Hashable, Size] = {}
        self._at_once: dict[Hashable, int | None] = {}

    def shapes(self, settings: Settings, cell: Cell) -> tuple[Loaded | None, tuple[str, ...]]:
        """The shapes of the cell's model, and what is missing for them or for counting tokens."""
        key = _shapes_key(settings, cell)
        if key not in self._shapes:
            self._shapes[key] = _shapes(settings, cell)
        return self._shapes[key]

    def with_device_batch(self, settings: Settings, cell: Cell, example: MicroBatchSize) -> Settings:
        """The settings with train.device_batch_size, for a longest example of this size."""
        key = (_shapes_key(settings, cell), example)
        if key not in self._at_once:
            sized = with_device_batch(settings, self._loaded(settings, cell), example, planned_device(settings))
            self._at_once[key] = sized.train.device_batch_size
        return replace(settings, train=replace(settings.train, device_batch_size=self._at_once[key]))

    def size(self, settings: Settings, cell: Cell, largest: MicroBatchSize) -> Size:
        """What training takes with this largest micro-batch."""
        key = (_shapes_key(settings, cell), largest)
        if key not in self._sizes:
            self._sizes[key] = _size(settings, self._loaded(settings, cell), largest)
        return self._sizes[key]

    def _loaded(self, settings: Settings, cell: Cell) -> Loaded:
        loaded, _ = self.shapes(settings, cell)
        assert loaded is not None
        return loaded


def _shapes_key(settings: Settings, cell: Cell) -> Hashable:
    """All that shapes, memory and disk of a cell depend on: an arm and a seed are no part of it."""
    train = replace(settings.train, device_batch_size=None)
    return repr(settings.model), repr(train), cell.tasks if settings.model.has_head else ()


def _shapes(settings: Settings, cell: Cell) -> tuple[Loaded | None, tuple[str, ...]]:
    try:
        shapes = load_shapes(settings, cell)
    except UserError as err:
        return None, (f"{err} Its config.json and tokenizer are enough for the plan.",)
    if settings.train.freeze or shapes.tokenizer is not None:
        return shapes, ()
    name = settings.model.tokenizer or settings.model.path
    return shapes, (f"model.tokenizer: {name} has none on this machine.",)


def _size(settings: Settings, shapes: Loaded, largest: MicroBatchSize) -> Size:
    try:
        memory = memory_of(settings, shapes, largest, planned_device(settings))
    except NOT_COUNTED:
        memory = None
    weights = list(shapes.model.parameters())
    return Size(
        sum(weight.numel() for weight in weights),
        sum(weight.numel() for weight in weights if weight.requires_grad),
        memory,
        disk_use(shapes.model, settings.train),
        largest.sequences,
        operations(shapes.model),
    )
