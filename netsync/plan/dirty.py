"""The paths of a source that changed and are not on the standby yet.

A path is *dirty* from the moment its change was seen until the standby has answered that it has
it on disk. In between it is taken for a transfer. What changes again meanwhile is dirty anew, and
what fails is dirty still, with the time at which it first was: the oldest such time is what the lag
is measured from.

A path stands for its entry alone, or with ``tree`` for all below it. What is below a dirty tree is
sent with it, and when there are too many paths the fullest directories become trees: looking at a
little too much is right, forgetting is not.

It asks no clock; times are seconds, given by the caller.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Final, NamedTuple

PATHS_MAX: Final = 65_536
"""Dirty paths kept; beyond, whole directories."""
_COARSENED: Final = 64
"""Directories taken whole at once when there are too many paths."""
SETTLE_SECONDS: Final = 1.0
"""How long a file that is being written is left alone, so that it is not sent for each write."""
SETTLE_MAX_SECONDS: Final = 5.0
"""How long at most: a file that is always being written must get there too."""


class Dirty(NamedTuple):
    """One dirty path: since when, and when it should be sent.

    ``rests`` is until when it is left alone because it has failed, however often it changes.
    ``came`` says that the name is new here, or some below it, ``went`` that it was taken away.
    """

    path: bytes
    tree: bool
    since: float
    due: float
    rests: float = 0.0
    came: bool = False
    went: bool = False


class DirtyPaths:
    """The dirty paths of one source."""

    def __init__(self) -> None:
        self._waiting: dict[bytes, Dirty] = {}
        self._taken: dict[bytes, Dirty] = {}
        self._unsaved: set[bytes] = set()

    def __len__(self) -> int:
        """Return how many there are, those taken included."""
        return len(self._waiting) + len(self._taken)

    def __iter__(self) -> Iterator[Dirty]:
        """Yield them all, those taken first."""
        yield from self._taken.values()
        yield from self._waiting.values()

    @property
    def taken(self) -> list[Dirty]:
        """What is being sent."""
        return list(self._taken.values())

    @property
    def oldest(self) -> float | None:
        """Return since when the standby has not had all; None if it has."""
        return min((each.since for each in self), default=None)

    @property
    def next_due(self) -> float | None:
        """Return when something should be sent next; None if nothing waits."""
        return min((each.due for each in self._waiting.values()), default=None)

    def add(self, path: bytes, now: float, *, tree: bool = False, writing: bool = False) -> None:
        """Note that ``path`` has changed."""
        known = self._waiting.get(path)
        since = now if known is None else known.since
        due = now
        if writing and not tree:
            due = min(now + SETTLE_SECONDS, since + SETTLE_MAX_SECONDS)
            if known is not None and known.due <= now:
                due = known.due  # it was closed before, and has not been sent since
        self._put(Dirty(path, tree, since, due))
        if len(self._waiting) > PATHS_MAX:
            self._coarsen()

    def mark(self, path: bytes, *, came: bool, went: bool) -> None:
        """Note of a path that has just been added that its name came, or went."""
        known = _tree_above(path, self._waiting) or self._waiting[path]
        self._waiting[known.path] = known._replace(came=known.came or came, went=known.went or went)

    def has_come(self, path: bytes, *, below: bool) -> bool:
        """Tell whether ``path`` waits under a name that came, or with ``below`` any in it."""
        inside = path + b"/"
        return any(
            each.came and (each.path == path or (below and each.path.startswith(inside)))
            for each in self._waiting.values()
        )

    def came(self) -> list[Dirty]:
        """Return what waits under names that came."""
        return [each for each in self._waiting.values() if each.came]

    def gone_since(self, gone: Container[bytes]) -> float | None:
        """Return since when what was taken is dirty, of that which may not have been there.

        Those are ``gone``, and those whose name, or one above or below it, went meanwhile.
        """
        went = {each.path for each in self._waiting.values() if each.went}
        around = {path for each in went for path in parents_of(each)}
        return min(
            (
                each.since
                for each in self._taken.values()
                if each.went
                or each.path in gone
                or not went.isdisjoint(parents_of(each.path))
                or each.path in went
                or (each.tree and each.path in around)
            ),
            default=None,
        )

    def since(self, path: bytes, *, below: bool = False) -> float | None:
        """Return since when ``path`` is dirty, taken or not, or what is ``below`` it with it."""
        sets = (self._waiting, self._taken)
        found = [known for each in sets for known in (each.get(path), _tree_above(path, each))]
        if below:
            found += (each for each in self if each.path.startswith(path + b"/"))
        return min((each.since for each in found if each is not None), default=None)

    def date_back(self, path: bytes, since: float) -> None:
        """Let what waits of ``path`` be as old as ``since``: it was heard a little late."""
        known = _tree_above(path, self._waiting) or self._waiting.get(path)
        if known is not None and since < known.since:
            self._waiting[known.path] = known._replace(since=since)
            self._unsaved.add(known.path)

    def take(self, now: float, most: int) -> list[Dirty]:
        """Return what is due, oldest first; it stays dirty until ``done``."""
        if self._taken:
            raise ValueError("what was taken before is not done")
        self._fold()
        due = sorted((each for each in self._waiting.values() if each.due <= now), key=_since)
        self._taken = {each.path: each for each in due[:most]}
        for path in self._taken:
            del self._waiting[path]
        return self.taken

    def take_all(self) -> list[Dirty]:
        """Return all that waits, due or not, for a look at the whole."""
        if self._taken:
            raise ValueError("what was taken before is not done")
        self._taken, self._waiting = self._waiting, {}
        return self.taken

    def put_back(self, paths: Container[bytes]) -> None:
        """Let what was taken wait again, but for ``paths``."""
        taken = self.taken
        self._taken = {each.path: each for each in taken if each.path in paths}
        for each in (each for each in taken if each.path not in paths):
            self._put(each)

    def concerns(self, paths: Iterable[bytes]) -> bool:
        """Tell whether trouble with any of ``paths`` concerns what was taken."""
        return any(_touches(each, path) for path in paths for each in self._taken.values())

    def hurry(self, now: float) -> None:
        """Let all that waits be due at once: somebody waits for it."""
        for path, each in self._waiting.items():
            self._waiting[path] = each._replace(due=min(each.due, now), rests=0.0)

    def done(
        self, failed: Iterable[bytes] = (), *, again: float = 0.0, undone: Iterable[bytes] = ()
    ) -> None:
        """The transfer is over: what it took is clean, but for ``failed`` paths.

        Those, and what is below or above them, rest until ``again``. ``undone`` are taken paths
        that were not dealt with for the others' sake: they are due still.
        """
        taken, self._taken = self.taken, {}
        paths, left = list(failed), frozenset(undone)
        self._unsaved.update(each.path for each in taken)
        for each in taken:
            if any(_touches(each, path) for path in paths):
                self._put(each._replace(due=again, rests=again))
            elif each.path in left:
                self._put(each)

    def give_back(self, again: float) -> None:
        """The transfer came to nothing: all that it took waits until ``again``."""
        taken, self._taken = self.taken, {}
        for each in taken:
            self._put(each._replace(due=max(again, each.due)))

    def _put(self, new: Dirty) -> None:
        """Keep a dirty path, joined with what is known of it and what covers it."""
        path = new.path
        above = _tree_above(path, self._waiting)
        known = above or self._waiting.get(new.path)
        if above is not None:
            new = new._replace(path=above.path, tree=True, due=min(above.due, new.due))
        if known is not None:
            rests = max(known.rests, new.rests)
            since, due = min(new.since, known.since), max(new.due, rests)
            came, went = new.came or known.came, new.went or known.went
            new = Dirty(new.path, new.tree or known.tree, since, due, rests, came, went)
        self._waiting[new.path] = new
        self._unsaved.update((path, new.path))

    @property
    def is_failing(self) -> bool:
        """Tell whether anything is dirty because it has failed."""
        return any(each.rests for each in self)

    def save_again(self, paths: Iterable[bytes]) -> None:
        """Let ``paths`` be told by ``unsaved`` once more."""
        self._unsaved.update(paths)

    def unsaved(self) -> tuple[list[Dirty], list[bytes]]:
        """Return what is new since the last call: what is dirty, and what is not any more."""
        unsaved, self._unsaved = self._unsaved, set()
        kept: list[Dirty] = []
        struck: list[bytes] = []
        for path in unsaved:
            found = [each for each in (self._taken.get(path), self._waiting.get(path)) if each]
            if found:
                tree = any(each.tree for each in found)
                kept.append(found[0]._replace(tree=tree))  # that of the transfer is the older
            else:
                struck.append(path)
        return kept, struck

    def _fold(self) -> None:
        """Put what is below a tree that is dirty as a whole into that."""
        if any(each.tree for each in self._waiting.values()):
            waiting, self._waiting = self._waiting, {}
            for path in sorted(waiting, key=len):
                self._put(waiting[path])
            self._unsaved |= waiting.keys() - self._waiting.keys()

    def _coarsen(self) -> None:
        """Take whole directories for the paths of the fullest ones, at last the whole tree."""
        self._fold()
        full = Counter(path.rpartition(b"/")[0] for path in self._waiting if path)
        since, due = min(map(_since, self._waiting.values())), self.next_due
        assert due is not None
        for directory, _ in full.most_common(_COARSENED):
            self._put(Dirty(directory, tree=True, since=since, due=due))
        self._fold()
        if len(self._waiting) > PATHS_MAX // 2:
            self._unsaved |= self._waiting.keys() | {b""}
            self._waiting = {b"": Dirty(b"", tree=True, since=since, due=due)}


def _tree_above(path: bytes, among: Mapping[bytes, Dirty]) -> Dirty | None:
    """Return the tree among those that ``path`` is in."""
    while path:
        path = path.rpartition(b"/")[0]
        found = among.get(path)
        if found is not None and found.tree:
            return found
    return None


def parents_of(path: bytes) -> Iterator[bytes]:
    """Yield the directories that ``path`` is in, the nearest first."""
    while path:
        path = path.rpartition(b"/")[0]
        yield path


def _since(dirty: Dirty) -> float:
    return dirty.since


def _touches(dirty: Dirty, path: bytes) -> bool:
    """Tell whether trouble with ``path`` may concern what is dirty."""
    if dirty.path == path or not dirty.path or not path:
        return True
    return path.startswith(dirty.path + b"/") or dirty.path.startswith(path + b"/")
