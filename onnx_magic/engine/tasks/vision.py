"""The vision tasks, a row each."""

from __future__ import annotations

from onnx_magic.engine.tasks.table import TaskRow

VISION_TASKS = (
    TaskRow(
        name="image-classification",
        aliases=(),
        auto_class="AutoModelForImageClassification",
        mapping="MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES",
        modality="image",
        sample="image",
        answer="labels and scores",
        meaning="label",
    ),
    TaskRow(
        name="image-to-text",
        aliases=("image-to-text-with-past", "image-captioning", "vision2seq-lm"),
        auto_class="AutoModelForImageTextToText",
        mapping="MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES",
        modality="image",
        sample="image",
        answer="the text that is seen, or that says what is seen",
        meaning="token",
        graphs="encoder-decoder",
    ),
)
