"""The table of all rules about settings that are fine alone and wrong together.

All of them are checked before anything is asked, paid for or trained. Those of targen/config/rules/submission.py hold only
for runs on a cluster and are checked when they are submitted.
"""

from targen.config.rules.data import DATA, HOLD_OUT
from targen.config.rules.evaluation import OPENLLM, PREDICTIONS
from targen.config.rules.generation import GENERATOR, REPEATS, ROUNDS, RUN, SHARDS, SYNTH
from targen.config.rules.training import FREEZE, INSTRUCTION_DATA, LOSSES, MODEL, SELECTION, TRAINING_DATA, TRAINING_RUN

RULES = (
    *RUN,
    *SYNTH,
    *HOLD_OUT,
    *ROUNDS,
    *SHARDS,
    *DATA,
    *TRAINING_DATA,
    *INSTRUCTION_DATA,
    *MODEL,
    *FREEZE,
    *LOSSES,
    *SELECTION,
    *TRAINING_RUN,
    *PREDICTIONS,
    *OPENLLM,
    *GENERATOR,
    *REPEATS,
)
