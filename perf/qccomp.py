"""QC-Comp's scoring compute: the released procedure, written plainly, against ours.

python perf/qccomp.py [--frames 1024] [--repeats 2] [--question 128]     a table, also put into RESULTS.md

Sizes: a Qwen2.5-1.5B LLM (28 layers, width 1536, 12 heads, 2 of them for keys, FFN 8960), 16 tokens a frame under
LP-Comp's schedule, and a ViT-L/16 at 448 × 448 whose frames attend to each other four by four. Operations are counted
by torch on the `meta` device, where nothing is computed. Before that both procedures run on a small model, and must
choose the same frames.

Released, for every question: each chunk is encoded anew; in every layer the whole layer is called on every window,
beside the plain pass (arXiv 2604.14149, Algorithm C, and its released code).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import Qwen2Config, Qwen2ForCausalLM

sys.path.insert(0, str(Path(__file__).parents[1]))

from measure import record

from evalkit.method import Budget
from evalkit.model import attention, question_attention
from evalkit.model.families.qwen2 import Qwen2
from evalkit.model.question_attention import QuestionAttention
from evalkit.types import VisualTokens
from methods.xcomp import XComp

REAL = {"hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "vocab_size": 151936}
REAL |= {"num_attention_heads": 12, "num_key_value_heads": 2}
SMALL = REAL | {"hidden_size": 32, "intermediate_size": 48, "vocab_size": 64, "num_attention_heads": 4}
PLACES, GRID = 16, (4, 4)  # tokens of a frame
HEAD = 14  # tokens before the video: the system turn, and the user's header
CLOSING = 3  # tokens of the assistant's header
VIT = {"width": 1024, "heads": 16, "blocks": 23, "patch": 16, "side": 448, "frames": 4}


def language_model(sizes: dict[str, int], name: str) -> Qwen2ForCausalLM:
    """Random weights; large ones, so that scores differ by more than rounding."""
    torch.manual_seed(0)
    config = Qwen2Config(**sizes, initializer_range=0.2, pad_token_id=0, eos_token_id=0)
    return Qwen2ForCausalLM._from_config(config, attn_implementation=name).eval()


def video(frames: int, width: int) -> VisualTokens:
    """Random features."""
    return VisualTokens.dense(torch.randn(frames * PLACES, width), seconds=range(frames), grid=GRID)


def budget(frames: int, layers: int) -> Budget:
    """The dense budget, a frame a cell."""
    return Budget.encoded(frames, GRID, ratio=1.0, layers=layers, cell_frames=1, unit=1)


# ---- ours


def ours(
    backbone: Qwen2, tokens: VisualTokens, method: XComp, chunk_cells: int | None = None
) -> Callable[[int], Tensor]:
    """What chooses the frames for a question of so many tokens; it keeps what does not depend on the question."""
    limits = budget(len(tokens.cell_seconds), backbone.layers)
    asker = QuestionAttention(backbone, tokens, method, limits, chunk_cells=chunk_cells)

    def choose(question: int) -> Tensor:
        asker.set_question(prompt(HEAD), prompt(question), question - CLOSING)
        return method.select(tokens, limits, asker).cell.unique()

    return choose


def prompt(tokens: int) -> list[int]:
    """Some text."""
    return [1 + i % 50 for i in range(tokens)]


# ---- the released procedure


@torch.inference_mode()
def released(model: Qwen2ForCausalLM, features: Tensor, method: XComp, question: int) -> Tensor:
    """The chosen frames of features (F, 16, D), which the released code encodes anew in each pass."""
    frames, layers = len(features), model.config.num_hidden_layers
    counts = method.counts(budget(frames, layers))
    totals, times = torch.zeros(layers, frames, dtype=torch.float64), torch.zeros(frames)
    for cells in method.passes(frames, 1):
        scores, valid = passed(model, features[cells], counts, method, question)
        index = torch.tensor(cells)[valid.repeat_interleave(method.clip)]
        totals[:, index] += scores[:, valid].repeat_interleave(method.clip, 1)  # a pass scores each frame at most once
        times[index] += 1
    mean = (totals / times)[method.layers(layers)].sum(0)
    return mean.topk(method.kept(budget(frames, layers))).indices.sort().values


def passed(
    model: Qwen2ForCausalLM, features: Tensor, counts: tuple[int, ...], method: XComp, question: int
) -> tuple[Tensor, Tensor]:
    """One pass over a chunk (C, 16, D): the score of each clip (layers, clips), and which count."""
    text, device, clips = model.model, model.device, len(features) // method.clip
    scores, covered = torch.zeros(len(counts), clips, dtype=torch.float64), torch.zeros(clips)
    before, after = (text.embed_tokens(torch.tensor(prompt(n), device=device)) for n in (HEAD, question))
    visual, places = features, PLACES
    width, stride = method.window // method.clip, method.stride // method.clip
    for i, n in enumerate(counts):
        visual, places = visual[:, places - n :], n
        for start in range(0, clips - width + 1, stride):
            window = visual[start * method.clip : (start + width) * method.clip].flatten(0, 1)
            inside = torch.cat([before, window, after[: question - CLOSING]])
            with weights_of(text.layers[i]) as seen:
                layer(text, i, inside, causal=False)  # whole, though nothing but its weights is read
            rows = seen[0][HEAD + len(window) :, HEAD : HEAD + len(window)].mean(0)
            if rows.device.type != "meta":
                scores[i, start : start + width] += rows.view(width, -1).mean(1).double()
            covered[start : start + width] += 1 if i == 0 else 0
        out = layer(text, i, torch.cat([before, visual.flatten(0, 1), after]), causal=True)
        before, visual, after = out[:HEAD], out[HEAD:-question].view(len(features), n, -1), out[-question:]
    return scores / covered, covered == covered.max()


def layer(text: Any, i: int, x: Tensor, *, causal: bool) -> Tensor:
    """One decoder layer over x (S, D), positions counted from 0."""
    size = len(x)
    mask = torch.full((size, size), -torch.inf, device=x.device).triu(1)[None, None] if causal else None
    where = text.rotary_emb(x[None], torch.arange(size, device=x.device)[None])
    out: Tensor = text.layers[i](x[None], position_embeddings=where, attention_mask=mask)[0]
    return out


@contextmanager
def weights_of(decoder_layer: Any) -> Iterator[list[Tensor]]:
    """The attention of the calls inside, averaged over heads, (S, S) each."""
    seen: list[Tensor] = []
    hook = decoder_layer.self_attn.register_forward_hook(lambda _, __, out: seen.append(out[1][0].mean(0)))
    try:
        yield seen
    finally:
        hook.remove()


# ---- the encoder


class Clip(nn.Module):
    """A ViT-L/16 over the patches of a clip of four frames, and the projector over what is merged of them."""

    def __init__(self) -> None:
        super().__init__()
        width = VIT["width"]
        self.patches = nn.Conv2d(3, width, VIT["patch"], VIT["patch"])
        block = nn.TransformerEncoderLayer(
            width, VIT["heads"], 4 * width, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(block, VIT["blocks"], enable_nested_tensor=False)
        llm = REAL["hidden_size"]
        self.projector = nn.Sequential(nn.Linear(width, llm), nn.GELU(), nn.Linear(llm, llm))

    def forward(self, pixels: Tensor) -> Tensor:
        """(4, 3, 448, 448) -> (64, D)."""
        x = self.patches(pixels).flatten(2).transpose(1, 2).flatten(0, 1)
        out: Tensor = self.projector(self.blocks(x[None])[0, : len(pixels) * PLACES])
        return out


def flops(call: Callable[[], object]) -> float:
    """Operations of matrix products and attention, a multiplication and an addition each."""
    with FlopCounterMode(display=False) as counter:
        call()
    return float(counter.get_total_flops())


def per_frame() -> float:
    """Operations of encoding one frame."""
    with torch.device("meta"):
        # train: torch's fused inference path is one operator that its counter does not know; there is no dropout
        return flops(lambda: Clip().train()(torch.empty(VIT["frames"], 3, VIT["side"], VIT["side"]))) / VIT["frames"]


# ---- the comparison


def same_frames() -> tuple[int, int]:
    """Both procedures on a small model; returns how many frames of how many they chose."""
    method = XComp(clip=4, window=16, stride=8, chunk=32, repeats=2, frame_ratio=0.25)
    plain, tokens = language_model(SMALL, "eager"), video(64, SMALL["hidden_size"])
    fast = language_model(SMALL, attention.register())
    fast.load_state_dict(plain.state_dict())
    with torch.inference_mode():
        choose = ours(Qwen2(fast), tokens, method, 16)
        for question in (20, 33):
            theirs = released(plain, tokens.features.view(-1, PLACES, SMALL["hidden_size"]), method, question)
            mine = choose(question)
            assert torch.equal(mine, theirs), (
                f"other frames: {mine.tolist()} and {theirs.tolist()}: compute says nothing"
            )
    return len(mine), len(tokens.cell_seconds)


def no_scores(_: Tensor, __: Tensor, width: int) -> Tensor:
    """Stands for the one step that reads numbers, which `meta` has not."""
    return torch.zeros(width, dtype=torch.float64)


def triangle(chunk: int, length: int) -> Tensor:
    """The causal mask as a tensor: torch's counter cannot be on while its CausalBias is made."""
    return torch.ones(chunk, length, dtype=torch.bool, device="meta").tril(length - chunk)


def counted(frames: int, repeats: int, question: int, chunk_cells: int | None) -> tuple[float, float, float, int]:
    """LLM operations at the real size: ours, first and further question; the released; frames that it encodes.

    All passes have the same shape: one is counted, over a video of one chunk.
    """
    method, chunk = XComp(repeats=1, frame_ratio=0.5), min(frames, XComp().chunk)
    passes = XComp(repeats=repeats).passes(frames, 1)
    assert {len(cells) for cells in (*passes, *method.passes(chunk, 1))} == {len(passes[0])}
    with torch.device("meta"):
        fast, plain = language_model(REAL, attention.register()), language_model(REAL, "eager")
        features = torch.empty(chunk * PLACES, REAL["hidden_size"])
    tokens = VisualTokens.dense(features, seconds=range(chunk), grid=GRID)
    with (
        torch.inference_mode(),
        patch.object(question_attention, "per_cell", no_scores),
        patch.object(attention, "causal_lower_right", triangle),
    ):
        choose = ours(Qwen2(fast), tokens, method, chunk_cells)
        first, further = (flops(lambda: choose(question)) for _ in range(2))
    theirs = flops(lambda: released(plain, features.view(chunk, PLACES, -1), method, question))
    count = len(passes)
    return first * count, further * count, theirs * count, count * len(passes[0])


def rows(frames: int, repeats: int, question: int, chunk_cells: int | None) -> list[dict[str, object]]:
    """First and further question, in three scopes."""
    first, further, theirs, encoded = counted(frames, repeats, question, chunk_cells)
    one = per_frame()
    found = []
    for name, mine, bar, needed in (("first", first, 5, frames), ("further", further, 50, 0)):
        for scope, all_theirs, all_mine in (
            ("less one encoding of each frame", theirs + one * (encoded - frames), mine),
            ("with every encoding", theirs + one * encoded, mine + one * needed),
            ("LLM alone", theirs, mine),
        ):
            factor = all_theirs / all_mine
            found.append(
                {
                    "question": name,
                    "scope": scope,
                    "released TFLOP": all_theirs / 1e12,
                    "ours TFLOP": all_mine / 1e12,
                    "released / ours": factor,
                    "bar": f"{bar}",
                    "": "held" if factor >= bar else "missed",
                }
            )
    return found


def main() -> None:
    """Equal frames first, then the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--question", type=int, default=128, help="tokens after the video")
    parser.add_argument("--chunk-cells", type=int, default=16, help="cells of a prefill chunk, as in conf/backbone")
    args = parser.parse_args()
    kept, seen = same_frames()
    table = rows(args.frames, args.repeats, args.question, args.chunk_cells)
    note = f"""F = {args.frames}, {args.repeats} repeats, {args.question} tokens after the video; counted by
torch.utils.flop_counter on the `meta` device. Same frames chosen, asserted on a small model ({kept} of {seen}, two
questions). The bar is on the first scope: everything between decoded and chosen frames, less the one encoding of each
frame that any run needs (taken off the released side at further questions, too). The encoder is a ViT-L/16 made of
torch's modules, 4 frames a clip, 23 blocks; ToMe's similarities are left out, and so are the tokens that the released
code generates in each pass. Attention counts as the rectangle that is computed: chunks of {args.chunk_cells} cells
spare ours a part of what lies behind the causal mask, which the released passes, whole, do not."""
    print(record("QC-Comp: scoring compute against the released procedure (counted)", table, note))


if __name__ == "__main__":
    main()
