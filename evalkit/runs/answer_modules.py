"""Which of evalkit's modules can change an answer: the code that is part of a run's identity.

All imports from `evalkit.engine` are followed. Every module that is reached stands in one of the two lists below; a
test fails where one is missing, or is listed and not reached. Methods are not here: their source is a part of its own.

What counts as the answer is a line of answers.jsonl without its seconds and its peak memory. Moving a module from one
list to the other, or renaming one, makes all earlier runs other runs: CHANGELOG.md says when that happened.
"""

from __future__ import annotations

# Assignments in a benchmark's file that tell where its data are published and how to check them: an address that
# changes makes no other run.
NOT_HASHED = frozenset({"SOURCES", "KNOWN_ROWS"})

CHANGES_ANSWERS = (
    "evalkit.encoder_view",
    "evalkit.merging",
    "evalkit.method",
    "evalkit.types",
    # from annotation files to questions: rows are hashed on their own, video and subtitle paths and groups are not
    "evalkit.data.benchmarks",
    "evalkit.data.benchmarks.evidence_spans",
    "evalkit.data.benchmarks.fields",
    "evalkit.data.benchmarks.files",
    "evalkit.data.benchmarks.lvbench",
    "evalkit.data.benchmarks.mlvu",
    "evalkit.data.benchmarks.rows",
    "evalkit.data.benchmarks.spec",
    "evalkit.data.benchmarks.videomme",
    # prompts, and how a reply is read
    "evalkit.data.protocols",
    "evalkit.data.protocols.base",
    "evalkit.data.protocols.letters",
    "evalkit.data.protocols.lmms_eval",
    "evalkit.data.protocols.official",
    "evalkit.data.protocols.retake",
    "evalkit.data.protocols.subtitles",
    "evalkit.data.protocols.table_protocol",
    "evalkit.data.protocols.task",
    "evalkit.data.protocols.xcomp",
    # which frames, and their pixels
    "evalkit.data.readers",
    "evalkit.data.readers.decord",
    "evalkit.data.readers.pyav",
    "evalkit.data.readers.timeline",
    "evalkit.data.readers.torchcodec",
    "evalkit.data.sampling",
    "evalkit.data.video",
    # the loop
    "evalkit.engine.accounting",
    "evalkit.engine.answer",
    "evalkit.engine.backbone",
    "evalkit.engine.encoded_video",
    "evalkit.engine.frame_encoder",
    "evalkit.engine.models",
    "evalkit.engine.records",
    "evalkit.engine.setup",
    # the model
    "evalkit.model.adapter",
    "evalkit.model.attention",
    "evalkit.model.cell_sequences",
    "evalkit.model.chat_template",
    "evalkit.model.decoder",
    "evalkit.model.encoder_attention",
    "evalkit.model.encoder_reader",
    "evalkit.model.families.llava",
    "evalkit.model.families.llava_onevision",
    "evalkit.model.families.llava_video",
    "evalkit.model.families.llava_video_model",
    "evalkit.model.families.native_config",
    "evalkit.model.families.qwen2_vl",
    "evalkit.model.families.qwen3_vl",
    "evalkit.model.families.registry",
    "evalkit.model.families.videochat_flash",
    "evalkit.model.families.videochat_flash_model",
    "evalkit.model.families.videochat_flash_tome",
    "evalkit.model.families.videochat_flash_vision",
    "evalkit.model.finite",
    "evalkit.model.flops",
    "evalkit.model.generation",
    "evalkit.model.hooks",
    "evalkit.model.kv_cache",
    "evalkit.model.live_tokens",
    "evalkit.model.load",
    "evalkit.model.normalization",
    "evalkit.model.option_margin",
    "evalkit.model.positions",
    "evalkit.model.prefill_state",
    "evalkit.model.prune_view",
    "evalkit.model.question_attention",
    "evalkit.model.separators",
    "evalkit.model.shared_weights",
    "evalkit.model.siglip_tower",
    "evalkit.model.tensors",
    "evalkit.model.video_llm",
    "evalkit.model.vision_tower",
    "evalkit.model.whole_prompt",
    "evalkit.model.window_attention",
)

CANNOT_CHANGE_ANSWERS = {  # module -> why
    "evalkit.engine.executor.base": "which process answers a video; the engine in it answers",
    "evalkit.engine.executor.local": "how many processes there are, and on which devices",
    "evalkit.engine.executor.pool": "which worker gets which video, and what is tried again",
    "evalkit.engine.executor.worker": "takes videos from the parent to the engine and answers back",
    "evalkit.engine.grid": "which questions are answered when, and into which folder; the engine answers them",
    "evalkit.engine.stage_times": "seconds and peak memory",
    "evalkit.engine.timing": "measurements that are taken after the answers, into a file of their own",
    "evalkit.errors": "classes without code; their messages are written where they are raised",
    "evalkit.ledger": "plain values: the counts are made in engine.accounting",
    "evalkit.child_process": "starts processes and ends them",
    "evalkit.machine": "cores and memory of this machine",
    "evalkit.model.checkpoint": "finds the files; their content is hashed as a part of its own",
    "evalkit.model.weights_identity": "the hash of the weights, which is a part of its own",
    "evalkit.hub": "units of sizes, and errors of downloads",
    "evalkit.plugins": "finds things by name; the source of what other packages bring is a part of its own",
    "evalkit.progress": "progress bars",
    "evalkit.runs.answer_modules": "this list; what it leaves out cannot change an answer",
    "evalkit.atomic_write": "how files are written",
    "evalkit.runs.config_file": "config.yaml, written before the first answer",
    "evalkit.runs.environment": "environment.json",
    "evalkit.runs.folder": "writes lines as they are given",
    "evalkit.runs.identity": "the identity itself",
}
