"""From a video file to visual tokens: the frames of each operating point, one decoding pass, the encoder in slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from evalkit.data import video as video_file
from evalkit.engine.encoded_video import PlannedVideo
from evalkit.engine.slice_encoder import SliceEncoder, SliceSize
from evalkit.errors import MethodError
from evalkit.method import Budget, OperatingPoint
from evalkit.model.encoder_reader import untimed
from evalkit.types import FramePlan, Frames, Video, VisualTokens

if TYPE_CHECKING:
    from evalkit.data.sampling import Sampling
    from evalkit.encoder_view import Need
    from evalkit.engine.encoded_clips import EncodedClips
    from evalkit.model.encoder_reader import Timed
    from evalkit.model.video_llm import VideoLLM


@dataclass(frozen=True, kw_only=True)
class FrameEncoder:
    """How a run decodes and encodes videos, the same for all operating points."""

    backbone: VideoLLM
    sampling: Sampling
    reader: str = "pyav"
    encode_cells: int = 32  # cells per encoder slice
    seed: int = 0
    _slice_size: SliceSize = field(init=False, repr=False, compare=False)  # of the run, from `encode_cells` down

    def __post_init__(self) -> None:
        object.__setattr__(self, "_slice_size", SliceSize(self.encode_cells))

    def budget(self, point: OperatingPoint, video: Video) -> Budget:
        """The limits of one operating point on one video. Where frames are planned, too, `plan` computes it once."""
        backbone = self.backbone
        count = self.sampling.count(video, backbone.clip_frames)
        size = backbone.frame_size
        if size is None:
            assert backbone.pixels_per_token is not None
            size = self.sampling.size(video, backbone.pixels_per_token)
        return Budget(
            ratio=point.ratio,
            frames=self.sampling.indices(video, count),
            sample=lambda n: self.sampling.indices(video, n),
            cell_frames=backbone.cell_frames,
            clip_frames=backbone.clip_frames,
            height=size[0],
            width=size[1],
            grid=backbone.token_grid(*size),
            pixels_per_token=backbone.pixels_per_token,
            layers=backbone.layers,
            seed=self.seed,
            video=video.path.name,
        )

    def plan(self, point: OperatingPoint, video: Video) -> PlannedVideo:
        """An operating point's limits on a video and the frames that it wants. MethodError for frames out of order."""
        self._expect_given(point)
        budget = self.budget(point, video)
        if point.method.needs_frame_scores and video.frame_scores is None:
            raise MethodError(
                f"{type(point.method).__name__} chooses frames by scores of the question, and there are none for it; "
                "name a file that has them: benchmark.frame_scores=FILE.json"
            )
        plan = point.method.frames(video, budget)
        ascending = all(a < b for a, b in zip(plan.indices, plan.indices[1:], strict=False))
        if not ascending or not self._sized(plan) or (plan.indices and not plan.slots):
            side = self.backbone.pixels_per_token
            raise MethodError(
                f"{type(point.method).__name__}.frames() must return unique ascending indices and "
                f"{'the size of the budget' if side is None else f'a size in multiples of {side}'}; got {plan}"
            )
        return PlannedVideo(point, budget, replace(plan, nearest=self.sampling.nearest_size(video)), self.backbone)

    def _expect_given(self, point: OperatingPoint) -> None:
        """MethodError where the encoder does not give what the method needs: it is not defined on this backbone."""
        missing = point.method.needs - self.backbone.gives
        if missing:
            raise MethodError(
                f"{type(point.method).__name__} is not defined on this backbone: it needs "
                f"{', '.join(sorted(missing))} of the vision encoder, and that of {type(self.backbone).__name__} gives "
                f"{', '.join(sorted(self.backbone.gives)) or 'features alone'}"
            )

    def _sized(self, plan: FramePlan) -> bool:
        """Whether the backbone takes frames of the plan's size."""
        size, side = (plan.height, plan.width), self.backbone.pixels_per_token
        return size == self.backbone.frame_size if side is None else not any(pixels % side for pixels in size)

    def decode(self, video: Video, plans: Sequence[FramePlan]) -> dict[FramePlan, Frames]:
        """The frames of every plan that wants any, from one pass over the file."""
        wanted = [plan for plan in dict.fromkeys(plans) if plan.indices]
        return dict(zip(wanted, video_file.decode(video, wanted, self.reader), strict=True)) if wanted else {}

    def slices(
        self,
        plan: FramePlan,
        needs: frozenset[Need] = frozenset(),
        timed: Timed = untimed,
        clips: EncodedClips | None = None,
    ) -> SliceEncoder:
        """What encodes a plan's frames as they come, and reads what methods need of the encoder; `timed` is around the
        work for that. `clips`: those of the same size that other plans for the video have encoded.
        """
        return SliceEncoder(self.backbone, plan, self._slice_size, needs, timed, clips)

    def encode(
        self,
        video: Video,
        plan: FramePlan,
        frames: Frames,
        *,
        needs: frozenset[Need] = frozenset(),
        timed: Timed = untimed,
    ) -> VisualTokens:
        """The visual tokens of a plan, from its frames, with what methods need of the encoder."""
        slices = self.slices(plan, needs, timed)
        for pixels, seconds in zip(frames.pixels, frames.seconds, strict=True):
            slices.hold(pixels, seconds)
            if slices.full:
                slices.encode_next()
        return self.tokens(video, plan, slices)

    def tokens(self, video: Video, plan: FramePlan, slices: SliceEncoder) -> VisualTokens:
        """The visual tokens of a plan whose frames have all come."""
        size, slots, seconds = self.backbone.cell_frames, slices.slots, slices.seconds
        features, deepstack = slices.features()
        own_times = plan.order is None or plan.keeps_times
        shown = torch.tensor(
            [seconds[slot] for slot in slots] if own_times else self._slot_seconds(video, len(slots)),
            dtype=torch.float64,
        ).view(-1, size)
        tokens = VisualTokens.dense(
            features,
            seconds=[seconds[slot] for slot in slots[::size]],
            grid=self.backbone.token_grid(plan.height, plan.width),
            deepstack=deepstack,
        )
        view = slices.view(features)
        tokens = replace(tokens, mean_seconds=shown.mean(1), spatial=self.backbone.spatial, encoder=view)
        return tokens if own_times else replace(tokens, slot_seconds=shown[:, 0])

    def _slot_seconds(self, video: Video, slots: int) -> list[float]:
        """When each of `slots` frames is shown where frames are repeated or reordered, ascending.

        The times are those of as many frames spread by the run's preset: uniform sampling's, whatever is shown.
        """
        if slots > video.frames:
            return [at * video.duration_s / slots for at in range(slots)]
        return [video.shown_at(index) for index in self.sampling.indices(video, slots)]
