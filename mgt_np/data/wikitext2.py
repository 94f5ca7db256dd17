"""Find, verify and read WikiText-2 (Merity et al. 2016, arXiv:1609.07843; text CC BY-SA 3.0).

The word-level files are the ones read, also for byte tokens: rare words are `<unk>` in them and
"well-known" is "well @-@ known", so bits per byte are not those of the raw variant.
"""

import os
from pathlib import Path

from .download import download
from .files import Expected, read_file, read_member

ARCHIVE = "wikitext-2-v1.zip"

# Of the splits, not of the archive: re-packed copies of it are about, with the same text.
EXPECTED = {
    "train": Expected(
        10_797_148, "9e9fa1ad55b1c2c95b08e37dd8e653f638fac2c6de904b79e813611eefbc985f"
    ),
    "valid": Expected(
        1_121_681, "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8"
    ),
    "test": Expected(1_256_449, "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0"),
}

ADDRESSES = {
    split: (
        "https://raw.githubusercontent.com/pytorch/examples/acc295dc7b90714f1bf47f06004fc19a7fe235c4"
        f"/word_language_model/data/wikitext-2/{split}.txt",
        f"https://wikitext.smerity.com/{ARCHIVE}#wikitext-2/wiki.{split}.tokens",
    )
    for split in EXPECTED
}


def cache_folder() -> Path:
    """Name the folder where downloads are kept; it need not exist."""
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    return Path(base or Path.home() / ".cache") / "mgt-np"


def find_wikitext_2(split: str, data_dir=None) -> Path | None:
    """Find the file on this machine that holds `split`, unread; None where there is none.

    Looks in `data_dir`, or where that is None in the folder that the environment variable
    MGT_NP_DATA names, and then in the cache. A folder may hold `wiki.<split>.tokens`, itself or in
    `wikitext-2/`, or the archive `wikitext-2-v1.zip`; they are taken in this order.
    Raises ValueError where the folder that was named does not exist.
    """
    folders = [cache_folder()]
    origin, named = "data_dir", data_dir
    if data_dir is None:
        origin, named = "MGT_NP_DATA", os.environ.get("MGT_NP_DATA") or None
    if named is not None:
        if not os.path.isdir(named):
            raise ValueError(f"{origin} must name a folder, got {os.fspath(named)!r}")
        folders.insert(0, Path(named))
    name = f"wiki.{split}.tokens"
    for folder in folders:
        for path in (folder / name, folder / "wikitext-2" / name, folder / ARCHIVE):
            if path.is_file():
                return path
    return None


def read_split(split: str, *, data_dir=None, expected=EXPECTED, addresses=ADDRESSES):
    """Read one split, from this machine or else downloaded into the cache.

    Gives the bytes, verified, and a dict that says where they came from. `expected` and
    `addresses` map a split to what its file must be and to where it can be downloaded.
    Raises ValueError where the file found is not the expected one (another is not tried in its
    place) and DownloadError where no address has it.
    """
    origin = {}
    path = find_wikitext_2(split, data_dir)
    if path is None:
        path = cache_folder() / "wikitext-2" / f"wiki.{split}.tokens"
        origin["address"] = download(
            addresses[split],
            path,
            expected=expected[split],
            by_hand=f"put {ARCHIVE} or {path.name} into a folder and set MGT_NP_DATA to it",
        )
    origin["path"] = str(path)
    try:
        if path.name == ARCHIVE:
            origin["member"] = f"wikitext-2/wiki.{split}.tokens"
            return read_member(path, origin["member"], expected[split]), origin
        return read_file(path, expected[split]), origin
    except ValueError as error:
        raise ValueError(
            f"{path} is not WikiText-2's {split} split: {error}; replace or remove it"
        ) from error
