"""What a checkpoint's generation_config.json changes about greedy decoding.

lmms-eval's Qwen2-VL and Qwen2.5-VL classes call `generate` with do_sample=False, num_beams=1, max_new_tokens and the
tokenizer's end and padding tokens. What the file says beside that stays active, such as a repetition_penalty of 1.05.
It is applied here by transformers' own processors, to the ids that those classes have: prompt, one <|video_pad|> for
every visual token that was fed, and the reply so far. What cannot be applied is refused.
Differs: every end token of the file ends a reply here; lmms-eval's classes pass the tokenizer's alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from evalkit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

# field -> values that change nothing, beside None
APPLIED: dict[str, tuple[Any, ...]] = {
    "sequence_bias": (),
    "repetition_penalty": (1.0,),
    "no_repeat_ngram_size": (0,),
    "bad_words_ids": (),
    "min_new_tokens": (0,),
    "suppress_tokens": (),
    "begin_suppress_tokens": (),
}
REFUSED: dict[str, tuple[Any, ...]] = {
    "min_length": (0,),  # counts the prompt, which a method shortens
    "encoder_repetition_penalty": (1.0,),
    "encoder_no_repeat_ngram_size": (0,),
    "guidance_scale": (1.0,),
    "exponential_decay_length_penalty": (),
    "forced_eos_token_id": (),
    "remove_invalid_values": (False,),
    "watermarking_config": (),
    "token_healing": (False,),
    "stop_strings": (),
    "max_time": (),
    "penalty_alpha": (0.0,),
    "dola_layers": (),
    "constraints": (),
    "force_words_ids": (),
    "num_beam_groups": (1,),
    "diversity_penalty": (0.0,),
    "num_return_sequences": (1,),
}
# without effect on which tokens greedy decoding gives, or set by the caller
WITHOUT_EFFECT = {
    "do_sample",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "top_h",
    "typical_p",
    "epsilon_cutoff",
    "eta_cutoff",
    "num_beams",
    "early_stopping",
    "length_penalty",
    "max_length",
    "max_new_tokens",
    "eos_token_id",
    "pad_token_id",
    "bos_token_id",
    "decoder_start_token_id",
    "forced_bos_token_id",
    "renormalize_logits",
    "use_cache",
    "cache_implementation",
    "cache_config",
    "max_cache_len",
    "prefill_chunk_size",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "output_logits",
    "return_dict_in_generate",
    "compile_config",
    "disable_compile",
    "continuous_batching_config",
    "low_memory",
    "is_assistant",
    "num_assistant_tokens",
    "num_assistant_tokens_schedule",
    "assistant_confidence_threshold",
    "prompt_lookup_num_tokens",
    "max_matching_ngram_size",
    "assistant_early_exit",
    "assistant_lookbehind",
    "target_lookbehind",
    "assistant_ensemble_weight",
    "speculation_type",
    "use_mtp",
    "generation_kwargs",
    "transformers_version",
}


def applied(config: Any) -> dict[str, Any]:
    """The fields of a GenerationConfig that change greedy decoding, with their values.

    Raises ConfigError for a field that would, and is not supported.
    """
    from transformers import GenerationConfig

    neutral = vars(GenerationConfig())
    given = {name: value for name in neutral if (value := getattr(config, name, None)) not in (None, neutral[name])}
    refused = {
        name: value
        for name, value in given.items()
        if not name.startswith("_")
        and name not in APPLIED
        and name not in WITHOUT_EFFECT
        and value not in REFUSED.get(name, ())
    }
    if refused:
        raise ConfigError(
            f"generation_config.json: expected none but {', '.join(APPLIED)} of what changes greedy decoding, got "
            f"{refused}; delete that in a copy of the checkpoint's folder, knowing that replies may change"
        )
    return {name: given[name] for name in APPLIED if name in given and given[name] not in APPLIED[name]}


@dataclass(frozen=True)
class Processors:
    """The active fields, and the tokens that end a reply."""

    fields: dict[str, Any]
    ends: frozenset[int]

    def __call__(self, logits: Tensor, read: Tensor, prompt: int) -> Tensor:
        """Logits (V,) of the next token as `generate` would choose from; `read` (n,) ids, the first `prompt` of which
        are the prompt.
        """
        if not self.fields:
            return logits
        ids, scores = read[None].to(logits.device), logits[None].float()
        for processor in self._made(prompt, logits.device):
            scores = processor(ids, scores)
        return scores[0]

    def _made(self, prompt: int, device: torch.device) -> Iterator[Any]:
        """In transformers' order."""
        import transformers

        t: Any = transformers  # some of these are not typed
        ends = torch.tensor(sorted(self.ends), device=device)
        kinds: dict[str, Callable[[Any], Any]] = {
            "sequence_bias": t.SequenceBiasLogitsProcessor,
            "repetition_penalty": t.RepetitionPenaltyLogitsProcessor,
            "no_repeat_ngram_size": t.NoRepeatNGramLogitsProcessor,
            "bad_words_ids": lambda x: t.NoBadWordsLogitsProcessor(x, ends),
            "min_new_tokens": lambda x: t.MinNewTokensLengthLogitsProcessor(prompt, x, ends, device=str(device)),
            "suppress_tokens": lambda x: t.SuppressTokensLogitsProcessor(x, device=str(device)),
            "begin_suppress_tokens": lambda x: t.SuppressTokensAtBeginLogitsProcessor(x, prompt, device=str(device)),
        }
        yield from (make(self.fields[name]) for name, make in kinds.items() if name in self.fields)
