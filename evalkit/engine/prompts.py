"""A question's prompt as one model reads it: text, and token ids before and after the video."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evalkit.data.protocols.base import PromptContext
from evalkit.errors import DataError

if TYPE_CHECKING:
    from evalkit.data.protocols import Protocol
    from evalkit.engine.encoded_video import EncodedVideo
    from evalkit.model.video_llm import VideoLLM
    from evalkit.types import Question

    PromptIds = tuple[list[int], list[int]]  # before and after the video
    # by tokenizer, benchmark, and whether there is a video
    Unasked = dict[tuple[Any, str, bool], PromptIds]


class Prompts:
    """The prompts of one video's questions, each made once for all operating points."""

    def __init__(self, protocol: Protocol, unasked: Unasked) -> None:
        """`unasked`: ids of prompts without a question, which are the same for all videos of a run."""
        self.protocol, self._unasked = protocol, unasked
        self._texts: dict[tuple[object, ...], str] = {}
        self._ids: dict[tuple[object, ...], PromptIds] = {}
        self._contexts: dict[tuple[object, ...], PromptContext] = {}

    def text(self, backbone: VideoLLM, question: Question, encoded: EncodedVideo) -> str:
        """The user's turn, which may name the times of the dense run's frames, and their number."""
        key = (id(backbone), question.id, encoded.tokens is None, encoded.dense_frames)
        if key not in self._texts:
            self._texts[key] = self._made(backbone, question, encoded)
        return self._texts[key]

    def _made(self, backbone: VideoLLM, question: Question, encoded: EncodedVideo) -> str:
        text = self.protocol.prompt(question, self._context(backbone, encoded))
        if encoded.tokens is None:
            return text
        return backbone.introduced(text, seconds=encoded.video.duration_s, frames=len(encoded.dense_frames))

    def _context(self, backbone: VideoLLM, encoded: EncodedVideo) -> PromptContext:
        """What all questions about the video may name."""
        video, frames = encoded.video, encoded.dense_frames
        key = (id(backbone), id(video), frames)
        if key not in self._contexts:
            seconds = tuple(i / video.fps for i in frames)
            self._contexts[key] = PromptContext(video, seconds, backbone.tokenizer)
        return self._contexts[key]

    def ids(self, backbone: VideoLLM, text: str, benchmark: str, encoded: EncodedVideo) -> PromptIds:
        """Token ids before and after the video of a user's turn.

        DataError where they alone are more than the model has positions.
        """
        key = (id(backbone), text, benchmark, encoded.tokens is None)
        if key not in self._ids:
            self._ids[key] = self._written(backbone, text, benchmark, video=encoded.tokens is not None)
        return self._ids[key]

    def ids_unasked(self, backbone: VideoLLM, benchmark: str, encoded: EncodedVideo) -> PromptIds:
        """The same of a turn without a question, for what depends on none."""
        video = encoded.tokens is not None
        key = (backbone.tokenizer, benchmark, video)
        if key not in self._unasked:
            self._unasked[key] = self._written(backbone, "", benchmark, video=video)
        return self._unasked[key]

    def _written(self, backbone: VideoLLM, text: str, benchmark: str, *, video: bool) -> PromptIds:
        system, prefill = self.protocol.system(benchmark), self.protocol.prefill(benchmark)
        found = backbone.prompt(text, video=video, system=system, prefill=prefill)
        _expect_room(backbone, found)
        return found


def _expect_room(backbone: VideoLLM, ids: PromptIds) -> None:
    count, limit = sum(map(len, ids)), backbone.max_positions
    if limit is not None and count > limit:
        raise DataError(
            f"expected a prompt of at most {limit:,} tokens, as the model has positions, got {count:,} without the "
            "video; shorten the question, or leave its row out"
        )
