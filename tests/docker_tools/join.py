"""Makes a tree of folders and of links to all that is in other trees; where two have the same, the first wins.

    join.py NEW TREE...
"""

import os
import sys


def join(new, tree):
    os.makedirs(new, exist_ok=True)
    for entry in os.scandir(tree):
        place = f"{new}/{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            if not os.path.lexists(place) or os.path.isdir(place) and not os.path.islink(place):
                join(place, entry.path)
        elif not os.path.lexists(place):
            os.symlink(entry.path, place)


os.umask(0o022)
os.makedirs(sys.argv[1])
for tree in sys.argv[2:]:
    join(sys.argv[1], tree)
