"""The students that can be taught on this machine."""

from collections.abc import Sequence
from pathlib import Path

from targen.config.group_files import model_from_file
from targen.quality.encoder import EmbeddingCache, NoEncoder, embed_in_subprocess
from targen.quality.students import BagOfWords, LinearOnEncoder, Student
from targen.runtime.errors import UserError
from targen.runtime.packages import package_folder

ENCODER = "minilm"  # a file of conf/model/
KEY = "method.rounds.students"


def encoder_cache(folder: Path) -> EmbeddingCache:
    """The cache of the packaged encoder in a folder; it embeds further texts in a child process."""
    model = model_from_file(ENCODER)
    return EmbeddingCache(folder, model, lambda texts: embed_in_subprocess(model, texts))


def check_students(names: Sequence[str], key: str = KEY) -> None:
    """Raises: UserError if one of the students cannot be taught here; `key` is the setting that names them."""
    if "encoder" not in names:
        return
    try:
        package_folder(str(model_from_file(ENCODER).path))
    except UserError as err:
        why = str(err).partition("but ")[2] or str(err)
        other = "[bag_of_words]" if key == KEY else "bag_of_words"
        raise UserError(f"{key}: got encoder, but {why} Or set {key}={other}.") from None


def students_named(names: Sequence[str], texts: Sequence[str], folder: Path, key: str = KEY) -> list[Student]:
    """These students, for questions with these texts: all are embedded at once, since starting the encoder takes seconds.

    Raises: UserError if the encoder cannot embed.
    """
    students: list[Student] = [BagOfWords()] if "bag_of_words" in names else []
    if "encoder" in names:
        cache = encoder_cache(folder)
        try:
            cache.embed(texts)
        except NoEncoder as err:
            raise UserError(
                f"{key}: the encoder cannot embed ({err}). All answers are kept. Rerun, or take bag_of_words."
            ) from None
        students.append(LinearOnEncoder(cache.embed))
    return students
