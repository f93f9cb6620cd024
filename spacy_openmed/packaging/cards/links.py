"""Links of a card where the files that they lead to may not be.

Nothing but the standard library is imported: setup.py runs this file by its path.
"""

import posixpath
import re
from collections.abc import Collection

# To a place on the web, or in the card itself, one can go from everywhere.
_LINK = re.compile(r"\[([^\]]*)\]\((?!\w+:|#)([^)\s]+)\)")


def without_dead_links(card: str, beside: Collection[str] = ()) -> str:
    """The text of a card with the names of files in place of links to those that are not there.

    card (str): Markdown.
    beside (Collection[str]): Names of the files in the card's folder.
    """
    return _LINK.sub(
        lambda link: link[0] if posixpath.normpath(link[2]) in beside else link[1], card
    )
