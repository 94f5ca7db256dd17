"""Parameter trees: nested dicts, lists and tuples whose leaves are arrays."""


def leaves_with_paths(tree, path=""):
    """Yield (path, leaf) from left to right; the path reads as the code that gets there."""
    if isinstance(tree, dict):
        for key, child in tree.items():
            yield from leaves_with_paths(child, f"{path}[{key!r}]")
    elif isinstance(tree, list | tuple):
        for i, child in enumerate(tree):
            yield from leaves_with_paths(child, f"{path}[{i}]")
    else:
        yield path, tree


_CONTAINERS = (dict, list, tuple)


def leaves_of(tree):
    """Return the leaves from left to right; raise ValueError for a tree that contains itself."""
    found = []
    try:
        _collect(tree, found)
    except RecursionError:
        raise ValueError(
            f"expected a tree of arrays, got a {type(tree).__name__} that contains itself"
        ) from None
    return found


def _collect(tree, found):
    if not isinstance(tree, _CONTAINERS):
        found.append(tree)
        return
    for child in tree.values() if isinstance(tree, dict) else tree:
        if isinstance(child, _CONTAINERS):
            _collect(child, found)
        else:
            found.append(child)


def rebuild(tree, leaves):
    """Return a tree of the shape of `tree` that holds the next of the iterator `leaves`."""
    if isinstance(tree, dict):
        return {
            key: rebuild(child, leaves) if isinstance(child, _CONTAINERS) else next(leaves)
            for key, child in tree.items()
        }
    if isinstance(tree, list):
        return [rebuild(child, leaves) for child in tree]
    if isinstance(tree, tuple):
        children = [rebuild(child, leaves) for child in tree]
        return type(tree)(*children) if hasattr(tree, "_fields") else tuple(children)
    return next(leaves)


def tree_map(function, tree, *others):
    """Apply `function` to the leaves of trees of one shape, and return a tree of the results.

    Leaves are paired by path, so the order of a dict's keys does not matter. Raises ValueError if
    the trees do not have the same paths.
    """
    leaves = dict(leaves_with_paths(tree))
    columns = [leaves]
    for other in others:
        columns.append(dict(leaves_with_paths(other)))
        differing = leaves.keys() ^ columns[-1].keys()
        if differing:
            raise ValueError(f"expected trees of one shape, but only one has {min(differing)}")
    return rebuild(tree, iter([function(*(c[path] for c in columns)) for path in leaves]))
