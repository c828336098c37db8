"""Finds images that are copies of one another, as good as: their people belong together, contradicting ones go.

Two pictures are near-copies when Pearson's correlation of their thumbnails is above the limit, or their pixels are
equal; what hangs together through copies of copies is one set.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from riskpred.errors import InputError

_BLOCK = 4096
"""Pictures compared at once with as many others: 64 MB of correlations."""


Key = TypeVar("Key", bound=Hashable)


class Sets(Generic[Key]):
    """Things that hang together, two by two (union-find)."""

    def __init__(self) -> None:
        self._above: dict[Key, Key] = {}

    def first(self, key: Key) -> Key:
        """The one that stands for the set of `key`."""
        way = []
        while (above := self._above.get(key, key)) != key:
            way.append(key)
            key = above
        for passed in way:
            self._above[passed] = key
        return key

    def join(self, one: Key, other: Key) -> None:
        self._above[self.first(one)] = self.first(other)


@dataclass
class Thumbnails:
    """What ingest keeps of every image until all are read. thumbnails: float32, mean 0, length 1; None of volumes."""

    image_id: list[str] = field(default_factory=list)
    label: list[str | None] = field(default_factory=list)
    digest: list[str | None] = field(default_factory=list)
    thumbnail: list[bytes | None] = field(default_factory=list)

    def add(self, rows: Iterable[tuple[str, str | None, str | None, bytes | None]]) -> None:
        for image_id, label, digest, thumbnail in rows:
            self.image_id.append(image_id)
            self.label.append(label)
            self.digest.append(digest)
            self.thumbnail.append(thumbnail)

    def copies(self, limit: float, kept: set[str]) -> list[list[int]]:
        """Sets of two or more near-copies, as places in the lists; only images of `kept` (image_id)."""
        sets: Sets[int] = Sets()
        there = [place for place, image_id in enumerate(self.image_id) if image_id in kept]
        equal: dict[str, int] = {}
        for place in there:
            if (digest := self.digest[place]) is not None:
                sets.join(place, equal.setdefault(digest, place))
        flat = [(place, data) for place in there if (data := self.thumbnail[place]) is not None]
        places = [place for place, _ in flat]
        for one, other in correlated(np.array([np.frombuffer(data, np.float32) for _, data in flat]), limit):
            sets.join(places[one], places[other])
        found: dict[int, list[int]] = defaultdict(list)
        for place in there:
            found[sets.first(place)].append(place)
        return [members for members in found.values() if len({self.image_id[place] for place in members}) > 1]

    def contradictory(self, copies: Sequence[Sequence[int]]) -> list[str]:
        """image_id of all members of sets whose labels differ."""
        odd = [members for members in copies if len({self.label[place] for place in members} - {None}) > 1]
        return sorted({self.image_id[place] for members in odd for place in members})


def correlated(thumbnails: NDArray[np.float32], limit: float) -> Iterable[tuple[int, int]]:
    """Pairs whose correlation is above the limit. Shape: (N, P), each of mean 0 and length 1; block by block."""
    for top in range(0, len(thumbnails), _BLOCK):
        upper = thumbnails[top : top + _BLOCK]
        for left in range(top, len(thumbnails), _BLOCK):
            one, other = np.nonzero(upper @ thumbnails[left : left + _BLOCK].T > limit)
            ahead = one + top < other + left
            yield from zip((one[ahead] + top).tolist(), (other[ahead] + left).tolist(), strict=True)


def joined_groups(groups: dict[int, str | None], together: Iterable[Sequence[int]]) -> dict[int, str | None]:
    """Groups of subjects, those of `together` (near-copies) made one, with all who were in their groups before."""
    sets: Sets[tuple[str, str]] = Sets()
    people: set[int] = set()
    for members in together:
        people |= set(members)
        for subject in members[1:]:
            sets.join(("subject", str(members[0])), ("subject", str(subject)))
    for subject, group in groups.items():
        if group is not None:
            people.add(subject)
            sets.join(("subject", str(subject)), ("group", group))
    names: dict[tuple[str, str], list[str]] = defaultdict(list)
    smallest: dict[tuple[str, str], int] = {}
    for subject in sorted(people):
        first = sets.first(("subject", str(subject)))
        smallest.setdefault(first, subject)
        if (group := groups.get(subject)) is not None:
            names[first].append(group)
    made = dict(groups)
    for subject in people:
        first = sets.first(("subject", str(subject)))
        made[subject] = " + ".join(sorted(set(names[first]))) or f"copies of {smallest[first]}"
    return made


def refuse_parted(together: Iterable[Sequence[int]], splits: dict[int, str]) -> None:
    """Raises: InputError, when a split that the source states parts near-copies."""
    parted = sum(len({splits[subject] for subject in members if subject in splits}) > 1 for members in together)
    if parted:
        raise InputError(
            f"{parted:,} sets of near-copies lie in different splits.",
            wanted="copies of an image in one split (ingest.yaml, splits.near_copies)",
            do="correct the column that names the splits, or leave near_copies out to keep it as it is",
        )
