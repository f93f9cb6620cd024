"""What a token is when passages are measured: a word, or a wordpiece of a backbone."""

from typing import Any

from .. import backbones


class Words:
    """Counts words: runs of characters between white space.

    special (int): Tokens that a window has besides the text's: none.
    """

    special = 0

    def __call__(self, text: str) -> int:
        return len(text.split())

    def describe(self) -> dict[str, Any]:
        """What the manifest says of it."""
        return {"tokens": "words"}


class Wordpieces:
    """Counts wordpieces, as pre-training will see them.

    backbone (str): Backbone id, or a folder that holds one.
    special (int): Special tokens of a window.
    """

    def __init__(self, backbone: str) -> None:
        self._reference = backbones.reference(backbone)
        self._tokenizer = backbones.load_tokenizer(backbones.find(self._reference))
        self.special: int = self._tokenizer.num_special_tokens_to_add(False)

    def __call__(self, text: str) -> int:
        from ..windows import encode

        return len(encode(text, self._tokenizer))

    def describe(self) -> dict[str, Any]:
        """What the manifest says of it."""
        return {
            "tokens": "wordpieces, special tokens included",
            "backbone": self._reference.to_dict(),
        }
