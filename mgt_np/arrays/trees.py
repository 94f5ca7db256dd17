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
    return rebuild(tree, iter([function(*leaves) for leaves in leaves_beside(tree, *others)]))


def leaves_beside(tree, *others):
    """Return the leaves of a tree from left to right, each with those at its path in the others.

    Raises ValueError if the trees do not have the same paths.
    """
    found = []
    try:
        _collect_beside((tree, *others), found)
    except (LookupError, TypeError):
        paths = {path for path, _ in leaves_with_paths(tree)}
        for other in others:
            differing = paths ^ {path for path, _ in leaves_with_paths(other)}
            if differing:
                first = min(differing)
                raise ValueError(f"expected trees of one shape, but only one has {first}") from None
        raise ValueError("expected trees of one shape, but their containers differ") from None
    return found


def _collect_beside(trees, found):
    first = trees[0]
    if not isinstance(first, _CONTAINERS):
        if any(isinstance(tree, _CONTAINERS) for tree in trees):
            raise TypeError
        found.append(trees)
        return
    mapping = isinstance(first, dict)
    for tree in trees:
        if not isinstance(tree, _CONTAINERS) or isinstance(tree, dict) is not mapping:
            raise TypeError
        if len(tree) != len(first):
            raise LookupError
    for key in first if mapping else range(len(first)):
        _collect_beside([tree[key] for tree in trees], found)
