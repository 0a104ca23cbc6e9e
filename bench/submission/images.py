"""Images of a grid's dataset, looked up before anything is planned on them."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchError, PluginError
from registry import cache_dir, datasets
from registry.contract import Sample
from registry.errors import DataError, RegistryError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DatasetImages:
    """Images below a folder, or the reasons why there are none.

    Attributes:
        root: the dataset's folder.
        samples: its images, not read yet.
        digest: their fingerprint; empty where there are none.
        n_images: number of images; as published, where they are not here yet.
        problems: a sentence each.
        absent: what is still to be fetched, a sentence each; only of plans made ahead.
    """

    root: Path
    samples: tuple[Sample, ...] = ()
    digest: str = ""
    n_images: int = 0
    problems: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()


def find(name: str, folder: Path | None, *, ahead: bool) -> DatasetImages:
    """Return the images of a dataset; one that is made in seconds is made, if it is not in the cache.

    Args:
        name: of the dataset. An unknown one has no images and no problem here: it is one of the grid's own.
        folder: of the dataset; None is the cache.
        ahead: data that are not here yet are no problem, where their number is known.
    """
    root = folder or cache_dir.data(name)
    if name not in datasets.names():
        return DatasetImages(root)
    dataset = datasets.get(name)
    published = dataset.published_images or 0
    release = datasets.release(dataset)
    try:
        with errors_in_words(name, f"can't list its images in {root}"):
            if folder is None and release.made_here:
                dataset.prepare(root)
            samples = dataset.samples(root)
        return DatasetImages(root, samples, datasets.fingerprint(samples)[:16], len(samples))
    except DataError as error:
        sentence = str(error)
        if ahead and published and folder is None:
            return DatasetImages(root, n_images=published, absent=(sentence,))
    except (BenchError, RegistryError, OSError) as error:
        sentence = str(error)
    return DatasetImages(root, n_images=published, problems=(sentence,))


def samples(name: str, root: Path) -> tuple[Sample, ...]:
    """Return the images of a dataset below a folder.

    Raises:
        DataError: there are none, or they are not laid out as they should be.
        PluginError: an error in a plug-in's code.
    """
    with errors_in_words(name, f"can't list its images in {root}"):
        return datasets.get(name).samples(root)


@contextmanager
def errors_in_words(name: str, failure: str) -> Iterator[None]:
    """Report any error of a dataset's own code in a sentence with its type, file and line.

    Args:
        name: of the dataset.
        failure: what it could not do, e.g. "can't list its images in /data".

    Raises:
        PluginError: in place of an error that is neither the harness's own nor of the file system.
    """
    try:
        yield
    except (BenchError, RegistryError, OSError):
        raise
    except Exception as error:
        logger.debug("dataset %r", name, exc_info=True)
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise PluginError(
            f"the dataset {name!r} {failure}: {type(error).__name__}: {' '.join(str(error).split())} "
            f"({place.filename}, line {place.lineno})."
        ) from error
