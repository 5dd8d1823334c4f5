"""From a conversation to a prompt: tokens, checked images, and the length against the context."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mobilevlm.engines.bundle import Bundle
from mobilevlm.errors import UserError, require
from mobilevlm.images.tiles import grid_of, squares_of
from mobilevlm.text.prompt import Conversation
from mobilevlm.text.tokenizer import Tokenizer

from .arguments import pixel_values
from .decoder import Decoder
from .prompt import Prompt


class PromptBuilder:
    """Maker of a bundle's prompts.

    Args:
        bundle: what is open.
        tokenizer: of its model.
        decoder: puts images into prompts.

    Attributes:
        tokenizer: as above.
        decoder: as above.
        start_end: whether `<im_start>` and `<im_end>` stand around images.
    """

    def __init__(self, bundle: Bundle, tokenizer: Tokenizer, decoder: Decoder):
        self.tokenizer, self.decoder = tokenizer, decoder
        self.start_end = bundle.config.mm_use_im_start_end
        self._per_image = bundle.manifest.num_image_tokens
        size = bundle.config.tower.image_size if bundle.has_vision else 0
        self._shape, self._tiled = (1, 3, size, size), bundle.has_vision and bundle.config.tower.do_image_splitting

    def prompt(self, conversation: Conversation, images: Sequence[np.ndarray]) -> Prompt:
        """Tokenises a conversation and puts its images in, none of which is encoded before the length is known.

        Args:
            conversation: ends in a question, or an answer for a beginning of later prompts.
            images: all it shows, oldest first, as `Session.read_image` returns them.

        Raises:
            UserError: an argument is none of these, the prompt is longer than the context, the session is closed.
        """
        require(isinstance(conversation, Conversation), "conversation", conversation, "a text.prompt.Conversation")
        checked = pixel_values(images, conversation.num_images, self._shape, self._tiled)
        ids = self.tokenizer.encode(conversation.segments(self.start_end, [grid_of(image) for image in checked]))
        pixels = [square for image in checked for square in squares_of(image)]
        length = len(ids) + len(pixels) * (self._per_image - 1)
        if length > self.decoder.max_context:
            shown = "images" if len(pixels) == len(checked) else "image tiles"
            raise UserError(
                f"the prompt has {length} tokens ({len(pixels)} {shown} of {self._per_image}), the context holds "
                f"{self.decoder.max_context}: {length - self.decoder.max_context} too many. Say less, show fewer "
                "images, or begin anew"
            )
        return self.decoder.prompt(ids, pixels)
