"""The text tasks, a row each."""

from __future__ import annotations

from onnx_magic.engine.tasks.table import TaskRow

_SENTENCES = ("The export of this model is checked at other lengths than this one.", "A short one.")

TEXT_TASKS = (
    TaskRow(
        name="feature-extraction",
        aliases=("default", "embedding", "sentence-similarity"),
        auto_class="AutoModel",
        mapping="MODEL_MAPPING_NAMES",
        modality="text",
        sample="text",
        answer="the arrays themselves",
        examples=_SENTENCES,
    ),
    TaskRow(
        name="text-classification",
        aliases=("sentiment-analysis", "sequence-classification", "zero-shot-classification"),
        auto_class="AutoModelForSequenceClassification",
        mapping="MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
        modality="text",
        sample="text, or a pair of texts",
        answer="label and score",
        meaning="label",
        examples=_SENTENCES,
    ),
    TaskRow(
        name="token-classification",
        aliases=("ner",),
        auto_class="AutoModelForTokenClassification",
        mapping="MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES",
        modality="text",
        sample="text",
        answer="entities with label, score and place",
        meaning="token-label",
        examples=("Ada Lovelace was born in London and wrote about the Analytical Engine.", "Paris in May."),
    ),
    TaskRow(
        name="question-answering",
        aliases=("qa", "extractive-qa"),
        auto_class="AutoModelForQuestionAnswering",
        mapping="MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES",
        modality="text",
        sample="question and context",
        answer="the span of the context that answers",
        meaning="span",
        examples=(
            ("Who wrote the program?", "Ada Lovelace wrote the first program for the Analytical Engine."),
            ("Where?", "It was in London."),
        ),
    ),
    TaskRow(
        name="fill-mask",
        aliases=("masked-lm",),
        auto_class="AutoModelForMaskedLM",
        mapping="MODEL_FOR_MASKED_LM_MAPPING_NAMES",
        modality="text",
        sample="text with the mask token",
        answer="the likeliest tokens for the mask",
        meaning="mask-token",
        examples=("The capital of France is {mask} and it lies on a river.", "{mask} is it."),
    ),
    TaskRow(
        name="multiple-choice",
        aliases=(),
        auto_class="AutoModelForMultipleChoice",
        mapping="MODEL_FOR_MULTIPLE_CHOICE_MAPPING_NAMES",
        modality="text",
        sample="a prompt and its choices",
        answer="the best choice and its score",
        meaning="choice",
        examples=(
            ("The glass fell off the table and", ("it broke into many pieces.", "it flew.")),
            ("It rained so", ("we stayed in.", "the sun was out all day long.")),
        ),
        extra_axes=("num_choices",),
    ),
    TaskRow(
        name="text-generation",
        aliases=("text-generation-with-past", "causal-lm"),
        auto_class="AutoModelForCausalLM",
        mapping="MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
        modality="text",
        sample="the beginning of a text",
        answer="its continuation, token by token",
        meaning="token",
        examples=(
            "The export of this model is checked",
            "Once upon a time, in a small house by the sea,",
            "It was",
            "The first program was written for the Analytical Engine because",
            "In May",
        ),
        graphs="causal",
    ),
)
